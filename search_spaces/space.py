"""A search space: which settings of a job may vary and how; what Optuna is asked, what a job gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.networks.profiles import StageSize, resolve_split

from .keys import SPLIT
from .ranges import IntRange, PlainRange, SplitPoints


@dataclass(frozen=True)
class SearchSpace:
    """Ranges by dotted key of the job file.

    Attributes:
        name: What the space was loaded as.
        ranges: The sound entries.
        flaws: What is wrong with the others; `check` reports it together with what does not fit a
            job.
    """

    name: str
    ranges: Mapping[str, PlainRange | SplitPoints]
    flaws: tuple[str, ...] = ()

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
        """Draw a design: dotted keys of the job file with their values; `split` is one integer a stage."""
        drawn = {name: range_.draw(trial, name) for name, range_ in self.expand(stages).items()}
        design: dict[str, Any] = {key: drawn[key] for key in self.ranges if key != SPLIT}
        if SPLIT in self.ranges:
            design[SPLIT] = [
                drawn.get(name, stage.min_mandatory)
                for name, stage in zip(split_names(stages), stages, strict=True)
            ]
        return design

    def start_point(self, job: Job, stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return the job's own settings under the names that `suggest` asks Optuna for."""
        return self.point(self._settings(job, stages), stages)

    def point(self, design: Mapping[str, Any], stages: Sequence[StageSize]) -> dict[str, Any]:
        """Return a design, as `suggest` returns it, under the names that `suggest` asks Optuna for."""
        values = {
            **design,
            **dict(zip(split_names(stages), design.get(SPLIT, ()), strict=False)),
        }
        return {name: values[name] for name in self.expand(stages)}

    def expand(self, stages: Sequence[StageSize]) -> dict[str, PlainRange]:
        """Return the range of every parameter that Optuna sees.

        A stage is one parameter where more than one split point keeps it skippable. Bounds depend on the
        backbone alone, so they are the same in every trial of a study.
        """
        plain: dict[str, PlainRange] = {}
        for key, range_ in self.ranges.items():
            if not isinstance(range_, SplitPoints):
                plain[key] = range_
                continue
            for name, stage in zip(split_names(stages), stages, strict=True):
                if stage.blocks - stage.min_mandatory > 1:
                    plain[name] = IntRange(kind="int", low=stage.min_mandatory, high=stage.blocks - 1)
        return plain

    def _settings(self, job: Job, stages: Sequence[StageSize]) -> dict[str, Any]:
        settings = {key: _setting(job, key) for key in self.ranges if key != SPLIT}
        if SPLIT in self.ranges:
            settings[SPLIT] = resolve_split(job.split, stages, network=job.backbone.name)
        return settings

    def _corner_problems(self, job: Job) -> list[str]:
        """Return which values of the ranges the job file would refuse."""
        corners = [
            (key, value)
            for key, range_ in self.ranges.items()
            if not isinstance(range_, SplitPoints)
            for value in range_.corners()
        ]
        refusals: dict[str, str] = {}
        for key, value in corners:
            try:
                job.override({key: value})
            except RequestError as error:
                refusals.setdefault(
                    str(error),
                    f"{key}: every value of a range must fit the job, {value!r} does not ({error}); "
                    "narrow the range",
                )
        return list(refusals.values())

    def _start_problems(self, job: Job, stages: Sequence[StageSize]) -> list[str]:
        """Return which of the job's settings trial 0 could not start from."""
        try:
            settings = self._settings(job, stages)
        except ValueError as error:
            return [str(error)]
        ranges, names = self.expand(stages), split_names(stages)
        points = dict(zip(names, settings.pop(SPLIT, ()), strict=False))
        only_skippable = {
            name: IntRange(kind="int", low=stage.min_mandatory, high=stage.min_mandatory)
            for name, stage in zip(names, stages, strict=True)
            if name in points and name not in ranges
        }
        return [
            f"{name}: the search starts from the job's own setting, {value!r} lies "
            f"outside {range_}; widen the range, or change the job"
            for name, value in {**settings, **points}.items()
            if not (range_ := {**ranges, **only_skippable}[name]).holds(value)
        ]

    def _size_problems(self, job: Job, stages: Sequence[StageSize]) -> list[str]:
        """Return a message if there are fewer designs than trials."""
        num_designs = math.prod(range_.num_values() for range_ in self.expand(stages).values())
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


def split_names(stages: Sequence[StageSize]) -> list[str]:
    """Return the parameter of every stage's split point, such as `split/1_of_4`."""
    return [f"split/{stage}_of_{len(stages)}" for stage in range(1, len(stages) + 1)]


def _setting(job: Job, key: str) -> Any:  # noqa: ANN401
    value: Any = job
    for step in key.split("."):
        value = getattr(value, step)
    return value
