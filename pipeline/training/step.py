"""One training step's forward passes: the super-net learns from targets, the students from it.

Shapes: B images, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.adaptive import Trace
from pipeline.recipe import DistillationConfig

from .distillation import at_least_float32, distillation_loss, feature_loss, unlearnt_share
from .teacher import Teacher

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Losses, shape (B,), of logits (B, C) against labels (B,) or shares of the classes (B, C)."""


@dataclass(frozen=True)
class PooledTrace:
    """Logits of one depth, at least float32, shape (B, C), and its stages' pooled outputs, (B, channels)."""

    logits: Tensor
    stages: tuple[Tensor, ...]


class SelfDistillation(nn.Module):
    """The joint loss of the super-net and its students.

    Called, it runs all of them from one stem: one backward through the result gives every parameter its whole
    gradient, so under DDP gradients are reduced once, overlapped, and none is unused. `backward_in_turns`
    gives the same gradients with the activations of one depth at a time.

    Args:
        network: The network that learns.
        rule: How the students learn.
        criterion: Of the targets.
        teacher: Teaches the super-net beside the targets; None where the rule has none.

    Raises:
        ValueError: If the rule leaves no stage to compare.
    """

    def __init__(
        self,
        network: AdaptiveDepthNetwork,
        rule: DistillationConfig,
        criterion: Criterion,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        if rule.feature_stages == "all_but_first" and len(network.layouts) == 1:
            raise ValueError(
                f"feature_stages: all_but_first needs several stages, got {network.name} with one; write all"
            )
        # In a tuple it is no submodule: it neither learns, nor is it stored, nor reduced over workers.
        self._teachers: tuple[Teacher, ...] = () if teacher is None else (teacher,)
        self.network = network
        self.rule = rule
        self.criterion = criterion

    def forward(self, images: Tensor, targets: Tensor, students: Sequence[DepthProfile]) -> Tensor:
        """Return the super-net's loss and the students' mean loss in one; see `DistillationConfig.reduction`.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            targets: Labels of shape (B,), or shares of the classes, shape (B, C).
            students: Depths that learn from the super-net.

        Returns:
            Shape ().
        """
        full, _ = self.network.extremes
        traces = self._trace(images, (full, *students))
        losses = [self._student_loss(traces[student], traces[full], targets) for student in students]
        super_loss = self._super_loss(traces[full], images, targets)
        super_weight, student_weight = self._weights
        return super_weight * super_loss + student_weight * torch.stack(losses).mean()

    @property
    def _weights(self) -> tuple[float, float]:
        """Weights of the super-net's and of the students' loss."""
        alpha = self.rule.alpha
        return (alpha, 1 - alpha) if self.rule.reduction == "mean" else (1.0, (1 - alpha) / alpha)

    def backward_in_turns(
        self,
        images: Tensor,
        targets: Tensor,
        students: Sequence[DepthProfile],
        backward: Callable[[Tensor], object],
    ) -> Tensor:
        """Run one depth after the other, each with its own backward pass; the stem runs once for each.

        Args:
            images: As for a call.
            targets: As for a call.
            students: As for a call.
            backward: Adds the gradients of a loss to those that are there.

        Returns:
            What a call returns, detached.
        """
        full, _ = self.network.extremes
        teacher = self._trace(images, (full,))[full]
        super_weight, student_weight = self._weights
        super_loss = super_weight * self._super_loss(teacher, images, targets)
        backward(super_loss)
        total, teacher = super_loss.detach(), _detached(teacher)
        for student in students:
            trace = self._trace(images, (student,))[student]
            loss = student_weight / len(students) * self._student_loss(trace, teacher, targets)
            backward(loss)
            total = total + loss.detach()
        return total

    def _trace(self, images: Tensor, profiles: Sequence[DepthProfile]) -> dict[DepthProfile, PooledTrace]:
        if self.rule.features == 0:
            logits = self.network.forward_profiles(images, profiles)
            return {profile: PooledTrace(at_least_float32(logits[profile]), ()) for profile in profiles}
        traces = self.network.trace_profiles(images, profiles)
        return {profile: self._pooled(traces[profile]) for profile in profiles}

    def _pooled(self, trace: Trace) -> PooledTrace:
        return PooledTrace(at_least_float32(trace.logits), tuple(map(self.network.pool_state, trace.stages)))

    def _super_loss(self, trace: PooledTrace, images: Tensor, targets: Tensor) -> Tensor:
        loss = self.criterion(trace.logits, targets).mean()
        rule = self.rule
        if rule.teacher is None:
            return loss
        (teacher,) = self._teachers
        taught = distillation_loss(
            trace.logits, teacher(images), temperature=rule.temperature, top_k=rule.top_k
        )
        return (1 - rule.teacher.share) * loss + rule.teacher.share * taught.mean()

    def _student_loss(self, student: PooledTrace, teacher: PooledTrace, targets: Tensor) -> Tensor:
        rule = self.rule
        if rule.student_labels == "only":
            return self.criterion(student.logits, targets).mean()
        losses_B = distillation_loss(
            student.logits, teacher.logits, temperature=rule.temperature, top_k=rule.top_k
        )
        if rule.student_labels == "fading":
            share_B = unlearnt_share(teacher.logits, targets)
            losses_B = share_B * self.criterion(student.logits, targets) + (1 - share_B) * losses_B
        if rule.features > 0:
            first = 1 if rule.feature_stages == "all_but_first" else 0
            losses_B = losses_B + rule.features * feature_loss(
                student.stages[first:],
                teacher.stages[first:],
                temperature=rule.feature_temperature or rule.temperature,
            )
        return losses_B.mean()


def _detached(trace: PooledTrace) -> PooledTrace:
    return PooledTrace(trace.logits.detach(), tuple(stage.detach() for stage in trace.stages))
