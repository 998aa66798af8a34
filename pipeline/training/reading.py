"""Loss and gradient of one step on their way from the device to the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Position:
    """A step of an epoch, both from 1."""

    epoch: int
    step: int
    num_steps: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step} of {self.num_steps}"


@dataclass(frozen=True)
class Reading:
    """What one step gave, on its way to the host.

    Attributes:
        position: Of the step.
        lr: Largest learning rate of the step.
        images: The parts of the batch that the network saw, on the device.
        values: Loss, and largest value of the classifier's gradient; on the host, shape (2,).
        arrival: Passed once the values have arrived; None if they have.
    """

    position: Position
    lr: float
    images: Sequence[Tensor]
    values: Tensor
    arrival: torch.cuda.Event | None

    def read(self) -> tuple[float, float]:
        """Return loss and gradient; waits for a device that has not come to them yet."""
        if self.arrival is not None:
            self.arrival.synchronize()
        loss, gradient = self.values.tolist()
        return loss, gradient
