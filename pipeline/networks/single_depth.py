"""One depth of an adaptive network as a network of its own: what that network is compared with.

Shapes: B images, K classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .adaptive import AdaptiveDepthNetwork, NetworkDescription
from .families import Family, State
from .profiles import DepthProfile
from .segments import run_head, run_recomputed, run_stage, run_stem


@dataclass(frozen=True)
class SingleDepthDescription:
    """What tells a network of one depth from others, as plain data that JSON can hold.

    Attributes:
        network: The adaptive network that it is a depth of.
        profile: Letters of that depth.
    """

    network: NetworkDescription
    profile: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**self.network.to_dict(), "alone": self.profile}


class SingleDepthNetwork(nn.Module):
    """A plain timm model of one depth: the blocks that the depth runs, each norm once, nothing shared.

    It starts with the weights that the adaptive network has for this depth.

    Args:
        network: The adaptive network; left as it is.
        profile: `full`, `base`, letters or a profile.

    Raises:
        ValueError: If the profile does not fit the network.
    """

    def __init__(self, network: AdaptiveDepthNetwork, profile: str | DepthProfile) -> None:
        super().__init__()
        self.profile = network.parse_profile(profile)
        self.description = SingleDepthDescription(network.description, self.profile.letters)
        self.family: Family = network.family
        self.recomputes_activations = False
        stages = [
            module
            for segment in range(1, network.num_segments - 1)
            for module in network.form(segment, network.path(segment, self.profile))
        ]
        # Copied together, the stages' modules are those of the backbone.
        self.backbone: nn.Module
        self.backbone, self._stages = copy.deepcopy((network.subnetwork(self.profile), tuple(stages)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (B, K), of normalised images, shape (B, channels, height, width)."""
        logits: Tensor
        if not (self.recomputes_activations and self.training and torch.is_grad_enabled()):
            logits = self.backbone(images)
            return logits
        state: State = run_stem(self.family, self.backbone, images)
        for module in self._stages:
            state = run_recomputed(run_stage, self.family, module, state)
        logits = run_head(self.family, self.backbone, state)
        return logits

    def forward_profiles(
        self, images: Tensor, profiles: Sequence[DepthProfile]
    ) -> dict[DepthProfile, Tensor]:
        """Run the one depth there is, as an adaptive network runs several.

        Raises:
            ValueError: If other profiles are asked for.
        """
        if tuple(profiles) != (self.profile,):
            asked = ", ".join(map(str, profiles)) or "none"
            raise ValueError(
                f"a network of one depth runs that depth, {self.profile}, got {asked}; ask for {self.profile}"
            )
        return {self.profile: self(images)}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activations inside stages while training and compute them again in the backward pass."""
        self.recomputes_activations = enable


Network = AdaptiveDepthNetwork | SingleDepthNetwork
"""What can be trained and evaluated."""


def trained_extremes(network: Network) -> tuple[DepthProfile, ...]:
    """Return the depths that every training of a network runs: `full` and `base`, or its only one."""
    return (network.profile,) if isinstance(network, SingleDepthNetwork) else network.extremes
