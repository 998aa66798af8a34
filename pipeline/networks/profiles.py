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


def resolve_split(
    split: Literal["paper"] | Sequence[int], num_blocks: Sequence[int], *, network: str
) -> tuple[int, ...]:
    """Return the number of mandatory blocks of every stage.

    Args:
        split: `paper`, or one split point a stage.
        num_blocks: Blocks of every stage.
        network: What to call the network in an error message.

    Raises:
        ValueError: If `split` has not one point a stage, a point lies outside 1..blocks, or no stage is left
            that can be skipped.
    """
    points = paper_split(num_blocks) if split == "paper" else tuple(split)
    if len(points) != len(num_blocks):
        raise ValueError(
            f"a split has one point a stage, got {len(points)} in {list(points)}, {network} has "
            f"{len(num_blocks)} stages of {list(num_blocks)} blocks; write 'paper' or {len(num_blocks)} "
            f"integers, such as {list(paper_split(num_blocks))}"
        )
    for stage, (point, blocks) in enumerate(zip(points, num_blocks, strict=True), start=1):
        if isinstance(point, bool) or not isinstance(point, int) or not 1 <= point <= blocks:
            raise ValueError(
                f"1 <= split point <= blocks must hold in every stage, got {point!r} for stage {stage} of "
                f"{network}, which has {blocks} blocks; a point of {blocks} makes the whole stage mandatory"
            )
    if all(point == blocks for point, blocks in zip(points, num_blocks, strict=True)):
        raise ValueError(
            f"at least one stage must be skippable, got the split {list(points)} of {network} with stages of "
            f"{list(num_blocks)} blocks; lower a point, or choose a network with more blocks in a stage"
        )
    return points


def paper_split(num_blocks: Sequence[int]) -> tuple[int, ...]:
    """Return the paper's split: about half of every stage is mandatory.

    ResNet-50 with [3, 4, 6, 3] gives (2, 2, 3, 2). A stage of one block is mandatory as a whole.

    Source: arXiv:2312.16392, section 4 (ResNet-50, Swin-T, ViT-B/16 in groups of three blocks).
    """
    return tuple(max(1, min(blocks - 1, math.ceil(blocks / 2))) for blocks in num_blocks)


def virtual_stages(num_blocks: int) -> tuple[int, ...]:
    """Return how many blocks each virtual stage of an isotropic network has.

    Four stages as in the paper (12 blocks give 3, 3, 3, 3), fewer where they would have less than two blocks;
    what does not divide evenly goes to the first stages.

    Source: arXiv:2312.16392, section 4 (ViT-B/16); the rule for other depths is chosen.
    """
    num_stages = max(1, min(4, num_blocks // 2))
    quotient, remainder = divmod(num_blocks, num_stages)
    return tuple(quotient + (stage < remainder) for stage in range(num_stages))
