"""The kinds of range for split points: each says what the sampler draws, and how that becomes a split.

All of them keep every stage skippable that can be skipped.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.networks.profiles import StageSize

from .ranges import FloatRange, IntRange, PlainRange, Range, bound_problems

Ratio = Annotated[float, Field(ge=0, le=1)]
"""Share of a stage's blocks that is mandatory."""

SHARED = "split/ratio"
"""Name of the one parameter of a shared ratio."""


class Stagewise(Range):
    """Split points that are drawn for every stage by itself."""

    def bounds(self, stage: StageSize) -> tuple[int, int]:
        """Return the first and the last split point of a stage."""
        return point_at(0, stage), point_at(1, stage)

    def parameters(self, stages: Sequence[StageSize]) -> dict[str, PlainRange]:
        """Return what the sampler draws: an integer for every stage that leaves a choice."""
        bounds = {name: self.bounds(stage) for name, stage in zip(split_names(stages), stages, strict=True)}
        return {
            name: IntRange(kind="int", low=low, high=high)
            for name, (low, high) in bounds.items()
            if low < high
        }

    def split(self, drawn: Mapping[str, Any], stages: Sequence[StageSize]) -> list[int]:
        """Return the split that drawn parameters mean."""
        return [
            drawn.get(name, self.bounds(stage)[0])
            for name, stage in zip(split_names(stages), stages, strict=True)
        ]

    def point(self, split: Sequence[int], stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return the parameters that mean a split; raises ValueError where none do."""
        if len(split) != len(stages):
            raise ValueError(f"split: {list(split)} has {len(split)} points, there are {len(stages)} stages")
        points = dict(zip(split_names(stages), split, strict=True))
        for (name, point), stage in zip(points.items(), stages, strict=True):
            low, high = self.bounds(stage)
            if not low <= point <= high:
                raise ValueError(f"{name}: {point} lies outside {low}..{high}")
        return {name: points[name] for name in self.parameters(stages)}

    def num_designs(self, stages: Sequence[StageSize]) -> float:
        """Return how many splits there are."""
        return math.prod(range_.num_values() for range_ in self.parameters(stages).values())


class SplitPoints(Stagewise):
    """The split point of every stage: from the smallest one possible to one below its blocks."""

    kind: Literal["split_points"]

    def problems(self, key: str) -> list[str]:  # noqa: ARG002
        """Return which laws this range breaks: it has nothing to get wrong."""
        return []

    def __str__(self) -> str:
        return "a split point a stage"


class RatioBounds(Range):
    """From `low` to `high` of a stage's blocks are mandatory."""

    low: Ratio
    high: Ratio

    def problems(self, key: str) -> list[str]:
        """Return which laws this range breaks."""
        return bound_problems(key, self.low, self.high)


class SplitRatios(Stagewise, RatioBounds):
    """The split point of every stage, with bounds on the share of its blocks that is mandatory."""

    kind: Literal["split_ratios"]

    def bounds(self, stage: StageSize) -> tuple[int, int]:
        """Return the first and the last split point of a stage."""
        return point_at(self.low, stage), point_at(self.high, stage)

    def __str__(self) -> str:
        return f"a split point a stage, {self.low:g}..{self.high:g} of its blocks"


class SplitRatio(RatioBounds):
    """One share of mandatory blocks for all stages."""

    kind: Literal["split_ratio"]

    def parameters(self, stages: Sequence[StageSize]) -> dict[str, PlainRange]:  # noqa: ARG002
        """Return what the sampler draws: the share."""
        return {SHARED: FloatRange(kind="float", low=self.low, high=self.high)}

    def split(self, drawn: Mapping[str, Any], stages: Sequence[StageSize]) -> list[int]:
        """Return the split that drawn parameters mean."""
        return [point_at(drawn[SHARED], stage) for stage in stages]

    def point(self, split: Sequence[int], stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return the parameters that mean a split; raises ValueError where none do."""
        splits = self._splits(stages)
        if tuple(split) not in splits:
            known = ", ".join(str(list(one)) for one in splits)
            raise ValueError(f"no ratio in {self.low:g}..{self.high:g} gives {list(split)}, only {known}")
        return {SHARED: splits[tuple(split)]}

    def num_designs(self, stages: Sequence[StageSize]) -> float:
        """Return how many splits there are."""
        return len(self._splits(stages))

    def _splits(self, stages: Sequence[StageSize]) -> dict[tuple[int, ...], float]:
        """Return all splits, each with a ratio that means it."""
        steps = {(point - 0.5) / stage.blocks for stage in stages for point in range(1, stage.blocks + 1)}
        edges = [self.low, *sorted(step for step in steps if self.low < step < self.high), self.high]
        middles = [(left + right) / 2 for left, right in itertools.pairwise(edges)]
        return {tuple(self.split({SHARED: ratio}, stages)): ratio for ratio in middles}

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g} of the blocks of every stage"


def point_at(ratio: float, stage: StageSize) -> int:
    """Return the split point nearest to a share of a stage's blocks, of two the larger, as in the paper."""
    nearest = math.floor(ratio * stage.blocks + 0.5)
    points = stage.skippable_points
    return min(max(nearest, points[0]), points[-1])


def split_names(stages: Sequence[StageSize]) -> list[str]:
    """Return the parameter of every stage's split point, such as `split/1_of_4`."""
    return [f"split/{stage}_of_{len(stages)}" for stage in range(1, len(stages) + 1)]
