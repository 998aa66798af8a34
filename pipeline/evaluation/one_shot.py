"""What every split of a one-shot network is worth, without training any by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.networks.one_shot import OneShotNetwork, Points

from .calibration import calibrate
from .evaluate import Reached, reach


def reach_splits(
    network: OneShotNetwork,
    images: Sequence[Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
) -> dict[Points, Reached]:
    """Count what all profiles of all splits reach, each with norm statistics of its own.

    Args:
        network: On `device`.
        images: To take the statistics from, see `calibrate`; shape (B, channels, height, width) each.
        batches: Validation images with labels of shape (B,).
        device: Where to compute.
    """
    found: dict[Points, Reached] = {}
    for split in network.splits():
        anew = calibrate(network.view(split), images, device=device)
        found[split] = reach(anew, batches, device=device, statistics="paths")
    return found
