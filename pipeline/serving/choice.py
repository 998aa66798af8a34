"""Which depth a call runs at: the one it names, or the best within its budget."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..evaluation.table import ProfileResult, ProfileTable

BUDGETS = ("max_latency_ms", "max_macs", "min_accuracy")
"""Milliseconds of one call (95th percentile), multiply-adds for one image, top-1 in [0, 1]."""

ON_REQUEST = "return_profile"
"""Parameter that adds the chosen profile to the answer."""

PARAMETERS = ("profile", *BUDGETS, ON_REQUEST)


@dataclass(frozen=True)
class Wanted:
    """What one call asks for.

    Attributes:
        profile: `full`, `base` or letters; None where none is named.
        budget: Name and limit of the budget, if any. With neither it is left to who answers.
        returns_profile: Whether the answer says which profile it comes from.
    """

    profile: str | None = None
    budget: tuple[str, float] | None = None
    returns_profile: bool = False

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Self:
        """Return what parameters ask for; one that is None counts as left out.

        Raises:
            ValueError: If one is unknown, has no sound value, or two say what depth to run.
        """
        given = {name: value for name, value in params.items() if value is not None}
        for name in given:
            _require_known(name)
        returns_profile = given.pop(ON_REQUEST, False)
        if not isinstance(returns_profile, bool):
            raise ValueError(f"{ON_REQUEST} is true or false, got {returns_profile!r}")
        if len(given) > 1:
            raise ValueError(
                f"a call gives one of profile, {', '.join(BUDGETS)}, got {' and '.join(sorted(given))}; "
                "leave out all but one"
            )
        if not given:
            return cls(returns_profile=returns_profile)
        ((name, value),) = given.items()
        if name == "profile":
            return cls(str(value), None, returns_profile)
        return cls(None, (name, _limit(name, value)), returns_profile)


def choose(table: ProfileTable, budget: tuple[str, float]) -> ProfileResult:
    """Return the best profile within a budget.

    Within `max_latency_ms` or `max_macs` that is the most accurate, of equals the one with the fewest
    multiply-adds; with `min_accuracy` the one with the fewest multiply-adds, of equals the most accurate.

    Args:
        table: What the profiles reach and cost.
        budget: Name and limit.

    Raises:
        ValueError: If no profile is within it.
    """
    name, limit = budget
    if name == "min_accuracy":
        within = [row for row in table.results if row.top1 >= limit]
        if within:
            return min(within, key=lambda row: (row.macs, -row.top1))
        best = max(table.results, key=lambda row: row.top1)
        raise ValueError(
            f"min_accuracy must be reached by some profile, got {limit:g}; the best one, {best.profile}, "
            f"reaches {best.top1:.4f} on {table.images}; lower it"
        )
    cost, unit = (
        (_latency, f"ms on {table.latency}") if name == "max_latency_ms" else (_macs, "multiply-adds")
    )
    within = [row for row in table.results if cost(row) <= limit]
    if within:
        return max(within, key=lambda row: (row.top1, -row.macs))
    least = min(table.results, key=cost)
    raise ValueError(
        f"{name} must be enough for some profile, got {limit:g}; the cheapest, {least.profile}, takes "
        f"{math.ceil(cost(least) * 1000) / 1000:.12g} {unit}; raise it"
    )


def _require_known(name: str) -> None:
    if name in PARAMETERS:
        return
    near = difflib.get_close_matches(name, PARAMETERS, n=1)
    hint = f"did you mean {near[0]}?" if near else "leave it out"
    raise ValueError(f"parameters are {', '.join(PARAMETERS)}, got {name!r}; {hint}")


def _limit(name: str, value: Any) -> float:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is a number of 0 or more, got {value!r}")
    return float(value)


def _latency(row: ProfileResult) -> float:
    return row.latency_p95_ms


def _macs(row: ProfileResult) -> float:
    return row.macs
