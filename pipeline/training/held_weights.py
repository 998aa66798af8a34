"""The weights of the step before a training broke, for numbers that are read some steps later."""

import torch
from torch import Tensor

from pipeline.networks.single_depth import Network


class HeldWeights:
    """The weights before the first bad step, kept on the device without waiting for it.

    Costs the memory of the weights once more and a copy of them a step, where steps are read later.
    """

    def __init__(self, network: Network) -> None:
        self._weights = list(network.parameters())
        self._held = [weight.detach().clone() for weight in self._weights]
        self._is_sound = torch.ones((), dtype=torch.bool, device=self._weights[0].device)

    @torch.no_grad()
    def hold(self, is_finite: Tensor) -> None:
        """Take the weights over unless a step before was bad; `is_finite` of shape () tells of this one."""
        for weight, held in zip(self._weights, self._held, strict=True):
            torch.where(self._is_sound, weight, held, out=held)
        self._is_sound = self._is_sound & is_finite

    @torch.no_grad()
    def restore(self) -> None:
        """Give the network these weights."""
        for weight, held in zip(self._weights, self._held, strict=True):
            weight.copy_(held)
