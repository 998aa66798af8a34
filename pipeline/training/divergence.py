"""How a training ended that is beyond saving: its loss or gradient is not a finite number any more."""

from dataclasses import dataclass

from pipeline.errors import JobError


@dataclass(frozen=True)
class Divergence:
    """The first step with a loss or gradient that is not finite; travels from the workers to the driver.

    Attributes:
        what: `loss`, or `gradient` where the loss was still finite.
        value: Of the loss, or the largest of the classifier's gradient.
        epoch: From 1.
        step: Of the epoch, from 1.
        num_steps: Steps of the epoch.
        lr: Largest learning rate of the step.
        origin: Where it comes from; see `origin.find_origin`.
    """

    what: str
    value: float
    epoch: int
    step: int
    num_steps: int
    lr: float
    origin: str

    def __str__(self) -> str:
        return (
            f"the training {self.what} must stay finite, got {self.value} in epoch {self.epoch}, step "
            f"{self.step} of {self.num_steps}, at learning rate {self.lr:g}; {self.origin}"
        )


class DivergenceError(JobError):
    """Ends the epoch loop of every worker at the same step.

    Args:
        divergence: Why; equal on every rank.
    """

    def __init__(self, divergence: Divergence) -> None:
        self.divergence = divergence
        super().__init__(divergence)

    def __str__(self) -> str:
        return str(self.divergence)
