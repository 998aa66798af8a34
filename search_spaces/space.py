"""A search space: which settings of a job may vary and how; what Optuna is asked, what a job gets."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import optuna
from pydantic import Field

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.networks.profiles import StageSize, resolve_split

from .conditional import Conditional
from .keys import BACKBONE, SPLIT
from .ranges import PlainRange
from .splits import SplitPoints, SplitRatio, SplitRatios

AnySplit = SplitPoints | SplitRatios | SplitRatio
AnyRange = Annotated[PlainRange | Conditional | AnySplit, Field(discriminator="kind")]


@dataclass(frozen=True)
class SearchSpace:
    """Ranges by dotted key of the job file.

    A design is a mapping of such keys to values, as `Job.override` takes it; `split` is one integer a stage.
    A point is the same design by the names of the parameters that Optuna sees.

    Attributes:
        name: What the space was loaded as.
        ranges: The sound entries.
        flaws: What is wrong with the others; `check` reports it together with what does not fit a
            job.
        variants: Size of every stage of each backbone that can be drawn, where the backbone is searched;
            split points follow the backbone drawn.
    """

    name: str
    ranges: Mapping[str, PlainRange | Conditional | AnySplit]
    flaws: tuple[str, ...] = ()
    variants: Mapping[str, Sequence[StageSize]] = field(default_factory=dict)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbones that can be drawn; none where the job's is left as it is."""
        return tuple(str(name) for name in getattr(self.ranges.get(BACKBONE), "choices", ()))

    def check(self, job: Job, stages: Sequence[StageSize]) -> list[str]:
        """Return everything that keeps a job from being searched in this space.

        Args:
            job: Its own settings are where the search starts, so they must lie inside the ranges.
            stages: Size of every stage of the job's backbone.
        """
        problems = [
            *self.flaws,
            *self._corner_problems(job),
            *self._start_problems(job, stages),
        ]
        problems = problems or self._size_problems(job, stages)
        return [f"space {self.name!r}: {problem}" for problem in problems]

    def suggest(self, trial: optuna.Trial, stages: Sequence[StageSize]) -> dict[str, Any]:
        """Draw a design."""
        design: dict[str, Any] = {}
        for key, range_ in self._ordered():
            match range_:
                case Conditional():
                    design |= range_.draw(trial, key)
                case SplitPoints() | SplitRatios() | SplitRatio():
                    prefix, its_stages = self._drawn(design, stages)
                    parameters = range_.parameters(its_stages)
                    drawn = {name: part.draw(trial, f"{prefix}{name}") for name, part in parameters.items()}
                    design[key] = range_.split(drawn, its_stages)
                case _:
                    design[key] = range_.draw(trial, key)
        return design

    def start_design(self, job: Job, stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return the job's own settings of what is searched."""
        return {
            key: list(resolve_split(job.split, stages, network=job.backbone.name))
            if key == SPLIT
            else _setting(job, key)
            for key in self._keys()
        }

    def holds(self, design: Mapping[str, Any], stages: Sequence[StageSize]) -> bool:
        """Return whether a design can be drawn."""
        return not self._misfits(design, stages)

    def point(self, design: Mapping[str, Any], stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return a design as a point; settings that it does not name are ignored.

        Raises:
            ValueError: If the design lacks a key, or has a value that cannot be drawn; with all problems, one
                a line.
        """
        point: dict[str, Any] = {}
        problems: list[str] = []
        for key, range_ in self.ranges.items():
            try:
                point |= self._point(key, range_, design, stages)
            except ValueError as error:
                problems += str(error).splitlines()
        if problems:
            raise ValueError("\n".join(problems))
        return point

    def parameters(self, stages: Sequence[StageSize]) -> dict[str, PlainRange]:
        """Return the range of every parameter that Optuna sees.

        Bounds depend on the backbone alone, so they are the same in every trial of a study.
        """
        plain: dict[str, PlainRange] = {}
        for key, range_ in self.ranges.items():
            match range_:
                case Conditional():
                    plain |= range_.parameters(key)
                case SplitPoints() | SplitRatios() | SplitRatio():
                    for prefix, its_stages in self._all_stages(stages):
                        parameters = range_.parameters(its_stages)
                        plain |= {f"{prefix}{name}": part for name, part in parameters.items()}
                case _:
                    plain[key] = range_
        return plain

    def num_designs(self, stages: Sequence[StageSize]) -> float:
        """Return how many designs there are; infinity with a range of real numbers."""
        counts = {
            key: range_.num_values()
            for key, range_ in self.ranges.items()
            if not isinstance(range_, SplitPoints | SplitRatios | SplitRatio)
        }
        split, backbone = self.ranges.get(SPLIT), self.ranges.get(BACKBONE)
        if isinstance(split, SplitPoints | SplitRatios | SplitRatio):
            # A backbone that is drawn has splits of its own, so both are counted together.
            inner = backbone.counts() if isinstance(backbone, Conditional) else itertools.repeat(1)
            counts[SPLIT] = sum(
                split.num_designs(its_stages) * count
                for (_, its_stages), count in zip(self._all_stages(stages), inner, strict=False)
            )
            counts.pop(BACKBONE, None)
        return math.prod(counts.values())

    def corners(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield designs with the outermost values of every range but a split's, each with the key tried."""
        for key, range_ in self.ranges.items():
            match range_:
                case Conditional():
                    for value, ranges in range_.choices.items():
                        middle = {name: part.corners()[0] for name, part in ranges.items()}
                        yield key, {**middle, key: value}
                        for name, part in ranges.items():
                            for corner in part.corners():
                                yield name, {**middle, key: value, name: corner}
                case SplitPoints() | SplitRatios() | SplitRatio():
                    continue
                case _:
                    for corner in range_.corners():
                        yield key, {key: corner}

    def _ordered(self) -> list[tuple[str, PlainRange | Conditional | AnySplit]]:
        """Return the entries, a split after all that it may follow from."""
        return sorted(self.ranges.items(), key=lambda item: item[0] == SPLIT)

    def _drawn(
        self, design: Mapping[str, Any], stages: Sequence[StageSize]
    ) -> tuple[str, Sequence[StageSize]]:
        """Return what the split parameters of a design's backbone begin with, and its stages."""
        if not self.variants:
            return "", stages
        name = str(design[BACKBONE])
        return f"{name}/", self.variants[name]

    def _all_stages(self, stages: Sequence[StageSize]) -> list[tuple[str, Sequence[StageSize]]]:
        """Return what `_drawn` can return."""
        return [(f"{name}/", its_stages) for name, its_stages in self.variants.items()] or [("", stages)]

    def _point(
        self,
        key: str,
        range_: PlainRange | Conditional | AnySplit,
        design: Mapping[str, Any],
        stages: Sequence[StageSize],
    ) -> dict[str, Any]:
        """Return an entry's part of a point; raises ValueError where there is none."""
        if key not in design:
            raise ValueError(f"{key}: a value is missing")
        match range_:
            case Conditional():
                return range_.point(design, key)
            case SplitPoints() | SplitRatios() | SplitRatio():
                if self.variants and design.get(BACKBONE) not in self.variants:
                    return {}  # told for the backbone
                prefix, its_stages = self._drawn(design, stages)
                return {
                    f"{prefix}{name}": value for name, value in range_.point(design[key], its_stages).items()
                }
        if not range_.holds(design[key]):
            raise ValueError(f"{key}: {design[key]!r} lies outside {range_}")
        return {key: design[key]}

    def _keys(self) -> Iterator[str]:
        """Yield every key of the job file once."""
        inner = (
            names
            for range_ in self.ranges.values()
            if isinstance(range_, Conditional)
            for names in range_.choices.values()
        )
        yield from dict.fromkeys(itertools.chain(self.ranges, *inner))

    def _corner_problems(self, job: Job) -> list[str]:
        """Return which values of the ranges the job file would refuse."""
        refusals: dict[str, str] = {}
        for key, design in self.corners():
            try:
                job.override(design)
            except RequestError as error:
                refusals.setdefault(
                    str(error),
                    f"{key}: every value of a range must fit the job, {design[key]!r} does not ({error}); "
                    "narrow the range",
                )
        return list(refusals.values())

    def _start_problems(self, job: Job, stages: Sequence[StageSize]) -> list[str]:
        """Return why the search could not start from the job's own settings, or from points of the user's."""
        try:
            own = self.start_design(job, stages)
        except ValueError as error:
            return [str(error)]
        is_first = job.search is None or job.search.paper_first
        problems = [
            f"the search starts from the job's own setting, {problem}; widen the range, change the job, or "
            "write search.paper_first: false"
            for problem in self._misfits(own, stages)
            if is_first
        ]
        for number, point in enumerate(job.search.start_points if job.search else ()):
            problems += [
                f"start_points[{number}]: a start point must lie in the space, {problem}"
                for problem in [
                    *(f"{key}: is not searched" for key in point if key not in own),
                    *self._misfits({**own, **point}, stages),
                ]
            ]
        return problems

    def _misfits(self, design: Mapping[str, Any], stages: Sequence[StageSize]) -> list[str]:
        """Return which values of a design cannot be drawn."""
        try:
            self.point(design, stages)
        except ValueError as error:
            return str(error).splitlines()
        return []

    def _size_problems(self, job: Job, stages: Sequence[StageSize]) -> list[str]:
        """Return a message if there are fewer designs than trials."""
        num_designs = self.num_designs(stages)
        trials = job.search.trials if job.search else 1
        if num_designs == 1:
            return [
                f"a space must leave something to search, got one design for stages of {blocks_of(stages)} "
                "blocks; add a range such as training.lr: {kind: float, low: 0.02, high: 0.4, log: true}"
            ]
        if num_designs < trials:
            return [
                f"search.trials must not exceed the designs of a space, got {trials} trials and "
                f"{num_designs} designs with {blocks_of(stages)} blocks; "
                f"write trials: {num_designs}, or add a range"
            ]
        return []


def blocks_of(stages: Sequence[StageSize]) -> list[int]:
    """Return the number of blocks of every stage."""
    return [stage.blocks for stage in stages]


def _setting(job: Job, key: str) -> Any:  # noqa: ANN401
    value: Any = job
    for step in key.split("."):
        value = getattr(value, step)
    return value
