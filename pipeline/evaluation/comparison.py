"""How the answers of one network's depths differ: agreement with `full`, single classes, single images.

Shapes: B images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.networks import DepthProfile


@dataclass(frozen=True)
class ClassAccuracy:
    """What the extremes get right of one class, in numbers of images."""

    num_images: int
    full: int
    base: int


@dataclass(frozen=True)
class Disagreement:
    """An image that `full` and `base` take for different classes.

    Attributes:
        image: As the network sees it, shape (channels, height, width).
        label: Its class.
        full: What `full` takes it for.
        base: What `base` takes it for.
        full_probability: That `full` gives to the label, in [0, 1].
        base_probability: That `base` gives to the label.
    """

    image: Tensor
    label: int
    full: int
    base: int
    full_probability: float
    base_probability: float

    @property
    def gap(self) -> float:
        """How far apart the two are about the label, in [0, 1]."""
        return abs(self.full_probability - self.base_probability)


class Comparison:
    """Collects, batch by batch, how depths differ.

    Args:
        profiles: Of the network, `full` first and `base` last.
        num_classes: Of the network.
        num_shown: How many images to keep on which the extremes differ: those about whose label they are
            furthest apart.
        device: Where the batches are.
    """

    def __init__(
        self, profiles: Sequence[DepthProfile], *, num_classes: int, num_shown: int, device: torch.device
    ) -> None:
        self._profiles = tuple(profiles)
        self._num_classes = num_classes
        self._num_shown = num_shown
        self._agreeing = torch.zeros(len(profiles), dtype=torch.int64, device=device)
        self._classes = torch.zeros(3, num_classes, dtype=torch.int64, device=device)
        self._shown: list[Disagreement] = []

    def watch(self, images: Tensor, logits: Mapping[DepthProfile, Tensor], labels_B: Tensor) -> None:
        """Take in a batch.

        Args:
            images: Shape (B, channels, height, width).
            logits: Of every profile, shape (B, C).
            labels_B: True classes.
        """
        answers = [logits[profile].argmax(dim=1) for profile in self._profiles]
        full_B, base_B = answers[0], answers[-1]
        self._agreeing += torch.stack([(answer_B == full_B).sum() for answer_B in answers])
        hits = (torch.ones_like(labels_B, dtype=torch.bool), full_B == labels_B, base_B == labels_B)
        self._classes += torch.stack(
            [torch.bincount(labels_B[hit_B], minlength=self._num_classes) for hit_B in hits]
        )
        if self._num_shown:
            self._keep(images, logits, labels_B)

    @property
    def agreement(self) -> dict[str, float]:
        """Share of the images that a profile takes for the same class as `full`, in [0, 1], by profile."""
        num_images = max(1, int(self._classes[0].sum()))
        counts = self._agreeing.tolist()
        return {str(profile): n / num_images for profile, n in zip(self._profiles, counts, strict=True)}

    @property
    def classes(self) -> tuple[ClassAccuracy, ...]:
        """What the extremes get right of every class."""
        return tuple(ClassAccuracy(*counts) for counts in zip(*self._classes.tolist(), strict=True))

    @property
    def shown(self) -> tuple[Disagreement, ...]:
        """The images that were kept, those with the widest gap first."""
        return tuple(self._shown)

    def _keep(self, images: Tensor, logits: Mapping[DepthProfile, Tensor], labels_B: Tensor) -> None:
        full_BC, base_BC = (
            logits[profile].float().softmax(dim=1) for profile in (self._profiles[0], self._profiles[-1])
        )
        full_B, base_B = full_BC.argmax(dim=1), base_BC.argmax(dim=1)
        of_label = torch.stack([full_BC, base_BC]).gather(2, labels_B.expand(2, -1)[..., None])[..., 0]
        gaps_B = (of_label[0] - of_label[1]).abs() * (full_B != base_B)
        widest = gaps_B.topk(min(self._num_shown, len(gaps_B)))
        rows = widest.indices[widest.values > 0]
        new = zip(
            images[rows].float().cpu(),
            *(values[rows].tolist() for values in (labels_B, full_B, base_B, *of_label)),
            strict=True,
        )
        kept = self._shown + [Disagreement(*values) for values in new]
        self._shown = sorted(kept, key=lambda one: -one.gap)[: self._num_shown]
