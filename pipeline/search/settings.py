"""A trial's settings, in words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def describe_values(values: Mapping[str, Any]) -> str:
    """Return settings as text; those of the training need not say that they are."""
    return "  ".join(f"{key.removeprefix('training.')} {_short(value)}" for key, value in values.items())


def varied_keys(trials: Sequence[Mapping[str, Any]]) -> Collection[str]:
    """Return the keys whose values differ between trials, or that some of them lack; all of a single one."""
    keys = list(dict.fromkeys(key for values in trials for key in values))
    if len(trials) < 2:
        return keys
    return [key for key in keys if any(values.get(key) != trials[0].get(key) for values in trials)]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
