"""The training step of a network that learns by itself: from targets, and from nobody else.

Shapes: B images, C classes.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from pipeline.networks import DepthProfile
from pipeline.networks.single_depth import SingleDepthNetwork

from .distillation import at_least_float32
from .step import Criterion


class SupervisedStep(nn.Module):
    """The loss of one network's predictions against the targets, called like a `SelfDistillation`.

    Args:
        network: The network that learns.
        criterion: Of the targets.
    """

    def __init__(self, network: SingleDepthNetwork, criterion: Criterion) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        students: Sequence[DepthProfile] = (),  # noqa: ARG002
    ) -> Tensor:
        """Return the mean loss.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            targets: Labels of shape (B,), or shares of the classes, shape (B, C).
            students: Nobody: there is one network.

        Returns:
            Shape ().
        """
        return self.criterion(at_least_float32(self.network(images)), targets).mean()

    def backward_in_turns(
        self,
        images: Tensor,
        targets: Tensor,
        students: Sequence[DepthProfile],
        backward: Callable[[Tensor], object],
    ) -> Tensor:
        """Run the one pass there is, with its backward pass; returns what a call returns, detached."""
        loss: Tensor = self(images, targets, students)
        backward(loss)
        return loss.detach()
