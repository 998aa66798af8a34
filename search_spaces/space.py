"""A search space: which settings of a job may vary and how; what Optuna is asked, what a job gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.networks.profiles import resolve_split

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

    def check(self, job: Job, num_blocks: Sequence[int]) -> list[str]:
        """Return everything that keeps a job from being searched in this space.

        Args:
            job: Its own settings are where the search starts, so they must lie inside the ranges.
            num_blocks: Blocks of every stage of the job's backbone.
        """
        problems = [
            *self.flaws,
            *self._corner_problems(job),
            *self._start_problems(job, num_blocks),
        ]
        problems = problems or self._size_problems(job, num_blocks)
        return [f"space {self.name!r}: {problem}" for problem in problems]

    def suggest(self, trial: optuna.Trial, num_blocks: Sequence[int]) -> dict[str, Any]:
        """Draw a design: dotted keys of the job file with their values; `split` is one integer a stage."""
        drawn = {name: range_.draw(trial, name) for name, range_ in self.expand(num_blocks).items()}
        design: dict[str, Any] = {key: drawn[key] for key in self.ranges if key != SPLIT}
        if SPLIT in self.ranges:
            design[SPLIT] = [drawn.get(name, 1) for name in split_names(num_blocks)]
        return design

    def start_point(self, job: Job, num_blocks: Sequence[int]) -> dict[str, Any]:
        """Return the job's own settings under the names that `suggest` asks Optuna for."""
        return self.point(self._settings(job, num_blocks), num_blocks)

    def point(self, design: Mapping[str, Any], num_blocks: Sequence[int]) -> dict[str, Any]:
        """Return a design, as `suggest` returns it, under the names that `suggest` asks Optuna for."""
        values = {
            **design,
            **dict(zip(split_names(num_blocks), design.get(SPLIT, ()), strict=False)),
        }
        return {name: values[name] for name in self.expand(num_blocks)}

    def expand(self, num_blocks: Sequence[int]) -> dict[str, PlainRange]:
        """Return the range of every parameter that Optuna sees.

        A stage of more than two blocks is one parameter; a shorter one has a single split point
        that keeps it skippable. Bounds depend on the backbone alone, so they are the same in every
        trial of a study.
        """
        plain: dict[str, PlainRange] = {}
        for key, range_ in self.ranges.items():
            if not isinstance(range_, SplitPoints):
                plain[key] = range_
                continue
            for name, blocks in zip(split_names(num_blocks), num_blocks, strict=True):
                if blocks > 2:
                    plain[name] = IntRange(kind="int", low=1, high=blocks - 1)
        return plain

    def _settings(self, job: Job, num_blocks: Sequence[int]) -> dict[str, Any]:
        settings = {key: _setting(job, key) for key in self.ranges if key != SPLIT}
        if SPLIT in self.ranges:
            settings[SPLIT] = resolve_split(job.split, num_blocks, network=job.backbone.name)
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

    def _start_problems(self, job: Job, num_blocks: Sequence[int]) -> list[str]:
        """Return which of the job's settings trial 0 could not start from."""
        try:
            settings = self._settings(job, num_blocks)
        except ValueError as error:
            return [str(error)]
        ranges, names = self.expand(num_blocks), split_names(num_blocks)
        points = dict(zip(names, settings.pop(SPLIT, ()), strict=False))
        only_skippable = {name: IntRange(kind="int", low=1, high=1) for name in points if name not in ranges}
        return [
            f"{name}: the search starts from the job's own setting, {value!r} lies "
            f"outside {range_}; widen the range, or change the job"
            for name, value in {**settings, **points}.items()
            if not (range_ := {**ranges, **only_skippable}[name]).holds(value)
        ]

    def _size_problems(self, job: Job, num_blocks: Sequence[int]) -> list[str]:
        """Return a message if there are fewer designs than trials."""
        num_designs = math.prod(range_.num_values() for range_ in self.expand(num_blocks).values())
        trials = job.search.trials if job.search else 1
        if num_designs == 1:
            return [
                f"a space must leave something to search, got one design for stages of {list(num_blocks)} "
                "blocks; add a range such as training.lr: {kind: float, low: 0.02, high: 0.4, log: true}"
            ]
        if num_designs < trials:
            return [
                f"search.trials must not exceed the designs of a space, got {trials} trials and "
                f"{num_designs} designs with {list(num_blocks)} blocks; "
                f"write trials: {num_designs}, or add a range"
            ]
        return []


def split_names(num_blocks: Sequence[int]) -> list[str]:
    """Return the parameter of every stage's split point, such as `split/1_of_4`."""
    return [f"split/{stage}_of_{len(num_blocks)}" for stage in range(1, len(num_blocks) + 1)]


def _setting(job: Job, key: str) -> Any:  # noqa: ANN401
    value: Any = job
    for step in key.split("."):
        value = getattr(value, step)
    return value
