"""The kinds of range that a space may give a setting: each draws a value and checks itself."""

import math
from typing import Annotated, Any, Literal, cast

import optuna
from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str


class Range(BaseModel):
    """A frozen entry of a space that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FloatRange(Range):
    """Real numbers from `low` to `high`, both included; evenly spread, with `log` over magnitudes."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    def problems(self, key: str) -> list[str]:
        """Return which laws this range breaks."""
        return bound_problems(key, self.low, self.high) + log_problems(key, self.low, is_log=self.log)

    def corners(self) -> tuple[float, ...]:
        """Return the outermost values."""
        return self.low, self.high

    def num_values(self) -> float:
        """Return how many values there are."""
        return math.inf

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Return whether a value can be drawn."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, trial: optuna.Trial, name: str) -> float:
        """Ask Optuna for a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


class IntRange(Range):
    """Integers from `low` to `high`, both included."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False

    def problems(self, key: str) -> list[str]:
        """Return which laws this range breaks."""
        return bound_problems(key, self.low, self.high) + log_problems(key, self.low, is_log=self.log)

    def corners(self) -> tuple[int, ...]:
        """Return the outermost values."""
        return self.low, self.high

    def num_values(self) -> float:
        """Return how many values there are."""
        return self.high - self.low + 1

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Return whether a value can be drawn."""
        return isinstance(value, int) and self.low <= value <= self.high

    def draw(self, trial: optuna.Trial, name: str) -> int:
        """Ask Optuna for a value."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


class Choice(Range):
    """One of some values, which have no order for the sampler."""

    kind: Literal["choice"]
    choices: Annotated[tuple[Scalar, ...], Field(strict=False)]

    def problems(self, key: str) -> list[str]:
        """Return which laws this range breaks."""
        if len(set(self.choices)) > 1 and len(set(self.choices)) == len(self.choices):
            return []
        return [
            f"{key}: choices must be two or more different values, got {list(self.choices)}; "
            "add one, or fix the setting in the job file"
        ]

    def corners(self) -> tuple[Scalar, ...]:
        """Return all values, as none is outermost."""
        return self.choices

    def num_values(self) -> float:
        """Return how many values there are."""
        return len(self.choices)

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Return whether a value can be drawn."""
        return value in self.choices

    def draw(self, trial: optuna.Trial, name: str) -> Scalar:
        """Ask Optuna for a value."""
        return cast(Scalar, trial.suggest_categorical(name, self.choices))

    def __str__(self) -> str:
        return f"one of {list(self.choices)}"


PlainRange = FloatRange | IntRange | Choice


def bound_problems(key: str, low: float, high: float) -> list[str]:
    """Return a message if the bounds leave nothing to choose."""
    if low < high:
        return []
    way_out = "swap them" if low > high else "widen the range, or fix the setting in the job file"
    return [f"{key}: low < high must hold, got low={low:g} and high={high:g}; {way_out}"]


def log_problems(key: str, low: float, *, is_log: bool) -> list[str]:
    """Return a message if magnitudes are asked for where there are none."""
    if not is_log or low > 0:
        return []
    return [f"{key}: low > 0 must hold with log: true, got low={low:g}; raise it, or leave log out"]
