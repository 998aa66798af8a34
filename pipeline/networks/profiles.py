"""Depth profiles and split points: the two small values that everything else speaks in.

A stage is split at its split point into a mandatory and a skippable sub-path; a depth profile says for every
skippable stage whether the second one runs. Source: Kang and Lee 2024, arXiv:2312.16392, section 3.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WHOLE, SKIPPED = "F", "T"

MAX_VIRTUAL_STAGES = 8
"""Chosen: 256 profiles."""


@dataclass(frozen=True)
class DepthProfile:
    """Which skippable stages are skipped: one letter a stage, first stage first.

    `F` = the stage runs whole, `T` = its second sub-path is skipped (the paper's model zoo writes it so).

    Raises:
        ValueError: If the letters are none, or others than T and F.
    """

    letters: str

    def __post_init__(self) -> None:
        if not self.letters or set(self.letters) - {WHOLE, SKIPPED}:
            raise ValueError(
                f"a profile is written with the letters T and F, got {self.letters!r}; "
                "write 'full', 'base', or one T or F a skippable stage"
            )

    @classmethod
    def parse(
        cls, text: "str | DepthProfile", *, num_stages: int, network: str = "the network"
    ) -> "DepthProfile":
        """Read a profile for a network with `num_stages` skippable stages.

        Args:
            text: `full`, `base`, letters such as `TTFF`, or a profile.
            num_stages: Skippable stages of the network.
            network: What to call the network in an error message.

        Raises:
            ValueError: If the letters are not T and F, or not one a skippable stage.
        """
        letters = {"full": WHOLE * num_stages, "base": SKIPPED * num_stages}.get(str(text), str(text))
        profile = cls(letters)
        if len(letters) != num_stages:
            raise ValueError(
                f"profile {letters!r} has {len(letters)} letters, {network} has {num_stages} skippable "
                f"stages; write one T or F a stage, such as {(SKIPPED + WHOLE * num_stages)[:num_stages]!r}"
            )
        return profile

    @classmethod
    def full(cls, num_stages: int) -> "DepthProfile":
        """Return the super-net's profile: nothing is skipped."""
        return cls(WHOLE * num_stages)

    @classmethod
    def base(cls, num_stages: int) -> "DepthProfile":
        """Return the base-net's profile: everything skippable is skipped."""
        return cls(SKIPPED * num_stages)

    @classmethod
    def enumerate(cls, num_stages: int) -> tuple["DepthProfile", ...]:
        """Return all 2^N profiles, `full` first and `base` last."""
        return tuple(
            cls("".join(letters)) for letters in itertools.product(WHOLE + SKIPPED, repeat=num_stages)
        )

    @property
    def is_extreme(self) -> bool:
        """Whether this is `full` or `base`, the two profiles that self-distillation trains."""
        return len(set(self.letters)) == 1

    def skips(self, stage: int) -> bool:
        """Return whether the skippable stage with this number (from 0) is skipped."""
        return self.letters[stage] == SKIPPED

    def __str__(self) -> str:
        return self.letters


@dataclass(frozen=True)
class StageSize:
    """How many blocks a stage has, and how many of them a split must keep.

    Attributes:
        blocks: All blocks; the largest split point, which makes the whole stage mandatory.
        min_mandatory: The smallest split point.
    """

    blocks: int
    min_mandatory: int = 1

    @property
    def is_skippable(self) -> bool:
        """Whether any block can be left out."""
        return self.min_mandatory < self.blocks

    @property
    def skippable_points(self) -> range:
        """The split points that leave blocks to skip; of a stage that cannot be skipped, its only one."""
        return range(self.min_mandatory, max(self.min_mandatory, self.blocks - 1) + 1)

    @property
    def paper_point(self) -> int:
        """The paper's split point: about half of the stage is mandatory.

        ResNet-50 with [3, 4, 6, 3] blocks gives 2, 2, 3, 2. A stage of one block is mandatory as a whole.

        Source: arXiv:2312.16392, section 4 (ResNet-50, Swin-T, ViT-B/16 in groups of three blocks).
        """
        return min(self.blocks, max(self.min_mandatory, min(self.blocks - 1, math.ceil(self.blocks / 2))))


def resolve_split(
    split: Literal["paper"] | Sequence[int], stages: Sequence[StageSize], *, network: str
) -> tuple[int, ...]:
    """Return the number of mandatory blocks of every stage.

    Args:
        split: `paper`, or one split point a stage.
        stages: Size of every stage.
        network: What to call the network in an error message.

    Raises:
        ValueError: If `split` has not one point a stage, a point lies outside min_mandatory..blocks, or no
            stage is left that can be skipped.
    """
    paper = [stage.paper_point for stage in stages]
    num_blocks = [stage.blocks for stage in stages]
    points = tuple(paper if split == "paper" else split)
    if len(points) != len(stages):
        raise ValueError(
            f"a split has one point a stage, got {len(points)} in {list(points)}, {network} has "
            f"{len(stages)} stages of {num_blocks} blocks; write 'paper' or {len(stages)} "
            f"integers, such as {paper}"
        )
    for number, (point, stage) in enumerate(zip(points, stages, strict=True), start=1):
        if isinstance(point, bool) or not isinstance(point, int) or not 1 <= point <= stage.blocks:
            raise ValueError(
                f"1 <= split point <= blocks must hold in every stage, got {point!r} for stage {number} of "
                f"{network}, which has {stage.blocks} blocks; a point of {stage.blocks} makes the whole "
                "stage mandatory"
            )
        if point < stage.min_mandatory:
            raise ValueError(
                f"only blocks that keep the shape and are residual can be left out, got the split point "
                f"{point} for stage {number} of {network}, whose first {stage.min_mandatory} of "
                f"{stage.blocks} blocks must stay; write {stage.min_mandatory} or more, `skipline inspect` "
                "shows why"
            )
    if all(point == stage.blocks for point, stage in zip(points, stages, strict=True)):
        raise ValueError(
            f"at least one stage must be skippable, got the split {list(points)} of {network} with stages of "
            f"{num_blocks} blocks; lower a point, or choose a network with more blocks in a stage"
        )
    return points


def virtual_stages(num_blocks: int, num_stages: int | None = None, *, network: str) -> tuple[int, ...]:
    """Return how many blocks each virtual stage of an isotropic network has.

    By default four stages as in the paper (12 blocks give 3, 3, 3, 3), fewer where they would have less than
    two blocks; what does not divide evenly goes to the first stages. At most eight, because N stages are 2^N
    profiles, each of which is evaluated.

    Args:
        num_blocks: Of the network.
        num_stages: From 1 to half of the blocks, at most 8; None takes the default.
        network: What to call the network in an error message.

    Raises:
        ValueError: If a stage would have less than two blocks, so that it could not be skipped, or there are
            too many.

    Source: arXiv:2312.16392, section 4 (ViT-B/16); the rule for other depths is chosen.
    """
    most = max(1, min(MAX_VIRTUAL_STAGES, num_blocks // 2))
    chosen = min(4, most) if num_stages is None else num_stages
    if not 1 <= chosen <= most:
        raise ValueError(
            f"virtual stages have two blocks or more and are at most {MAX_VIRTUAL_STAGES}, got {chosen} for "
            f"the {num_blocks} blocks of {network}; choose 1 to {most}"
        )
    quotient, remainder = divmod(num_blocks, chosen)
    return tuple(quotient + (stage < remainder) for stage in range(chosen))
