"""A choice whose values bring ranges of their own."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import optuna
from pydantic import Field

from .ranges import Choice, PlainRange, Range, Scalar


class Conditional(Range):
    """One of some values; each has the ranges that apply only where it is drawn.

    Such as learning rates that differ by optimizer. The sampler sees them as parameters of their own.
    """

    kind: Literal["conditional"]
    choices: Mapping[Scalar, Mapping[str, Annotated[PlainRange, Field(discriminator="kind")]]]

    @property
    def choice(self) -> Choice:
        """The values alone."""
        return Choice(kind="choice", choices=tuple(self.choices))

    def problems(self, key: str) -> list[str]:
        """Return which laws this range and those in it break."""
        inner = [
            range_.problems(f"{key}={value}: {name}")
            for value, ranges in self.choices.items()
            for name, range_ in ranges.items()
        ]
        return [*self.choice.problems(key), *itertools.chain.from_iterable(inner)]

    def parameters(self, key: str) -> dict[str, PlainRange]:
        """Return what the sampler draws."""
        return {key: self.choice, **{parameter: range_ for _, _, parameter, range_ in self._inner(key)}}

    def draw(self, trial: optuna.Trial, key: str) -> dict[str, Any]:
        """Ask Optuna for a value and for what belongs to it; by key of the job file."""
        value = self.choice.draw(trial, key)
        inner = {
            name: range_.draw(trial, parameter)
            for one, name, parameter, range_ in self._inner(key)
            if one == value
        }
        return {key: value, **inner}

    def point(self, design: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Return the parameters that mean a design; raises ValueError where none do."""
        if not self.choice.holds(design[key]):
            raise ValueError(f"{key}: {design[key]!r} lies outside {self}")
        inner = [
            (name, parameter, range_)
            for value, name, parameter, range_ in self._inner(key)
            if value == design[key]
        ]
        outside = [
            f"{parameter}: {design.get(name)!r} lies outside {range_}"
            for name, parameter, range_ in inner
            if not range_.holds(design.get(name))
        ]
        if outside:
            raise ValueError("\n".join(outside))
        return {key: design[key], **{parameter: design[name] for name, parameter, _ in inner}}

    def num_values(self) -> float:
        """Return how many designs there are."""
        return sum(self.counts())

    def counts(self) -> list[float]:
        """Return how many designs each value has."""
        return [
            math.prod(range_.num_values() for range_ in ranges.values()) for ranges in self.choices.values()
        ]

    def _inner(self, key: str) -> Iterator[tuple[Scalar, str, str, PlainRange]]:
        """Yield the value, key, parameter and range of what belongs to values."""
        for value, ranges in self.choices.items():
            for name, range_ in ranges.items():
                yield value, name, f"{name} ({key}={value})", range_

    def __str__(self) -> str:
        return str(self.choice)
