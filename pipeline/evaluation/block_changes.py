"""How much every block changes what flows through it: why a network survives that blocks are skipped.

Shapes: B images.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.families import hidden_of


@torch.no_grad()
def measure_block_changes(network: AdaptiveDepthNetwork, images: Tensor) -> dict[str, float | None]:
    """Return for every block how large the change is that it makes, relative to what it is given.

    The change is what the block returns less what it takes, so an activation behind the addition counts as
    a part of the block.

    Args:
        network: In evaluation mode.
        images: Normalised images on its device, shape (B, channels, height, width).

    Returns:
        The mean over the images of the change's norm as a share of the norm of what the block takes, by the
        block's path in the backbone, in the order in which blocks run in `full`; None where the two differ in
        shape.

    Source: arXiv:2312.16392, figure 3.
    """
    full = network.subnetwork("full")
    blocks = [block for layout in network.layouts for block in layout.blocks]
    changes: dict[str, float | None] = {}

    def watch(block: str) -> tuple[RemovableHandle, RemovableHandle]:
        given: list[Tensor] = []

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            given[:] = [hidden_of(inputs[0]).clone()]  # the block may overwrite it

        def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
            changes[block] = _relative_change(given[0], hidden_of(output))

        module = full.get_submodule(block)
        return module.register_forward_pre_hook(before), module.register_forward_hook(after)

    hooks = [hook for block in blocks for hook in watch(block)]
    try:
        full(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {block: changes.get(block) for block in blocks}


def _relative_change(before: Tensor, after: Tensor) -> float | None:
    if before.shape != after.shape:
        return None
    change_B, norm_B = (after - before).flatten(1).norm(dim=1), before.flatten(1).norm(dim=1)
    return float((change_B / norm_B.clamp_min(torch.finfo(norm_B.dtype).tiny)).mean())
