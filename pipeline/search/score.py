"""The one number by which trials are compared, from the epochs of a trial: pure functions.

Every epoch's `score` is the hypervolume over all profiles. A trial is worth its best epoch, because
that is the checkpoint that a training keeps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pipeline.search_config import ParetoValue
from pipeline.training.epochs import SCORE, EpochReport, History

from .record import Outcome, TrialRecord

Key = TypeVar("Key")
Values = tuple[float, ...]
"""What designs are compared by: the score, or what is traded off."""


@dataclass(frozen=True)
class Traded:
    """What designs are traded off by: its metric of an epoch, which direction is better, what is worst."""

    metric: str
    direction: Literal["minimize", "maximize"]
    worst: float


TRADED: Mapping[ParetoValue, Traded] = {
    "full_accuracy": Traded("full/top1", "maximize", 0.0),
    "base_accuracy": Traded("base/top1", "maximize", 0.0),
    "base_cost": Traded("base/cost", "minimize", 1.0),
}

FAILED_SCORE = 0.0
"""Score of a trial that broke or diverged: the worst there is, and a number, which the sampler needs."""


def score_so_far(history: History) -> float:
    """Return the best score of a trial, in [0, 1]; 0 if its last epoch diverged."""
    best = best_epoch(history)
    return best.metrics[SCORE] if best and divergence(history) is None else FAILED_SCORE


def values_so_far(history: History, pareto: Sequence[ParetoValue]) -> Values:
    """Return what a sampler is told: a trial's score, or what of its best epoch is traded off."""
    if not pareto:
        return (score_so_far(history),)
    best = best_epoch(history)
    if best is None or divergence(history):
        return tuple(TRADED[name].worst for name in pareto)
    return tuple(best.metrics[TRADED[name].metric] for name in pareto)


def curve_of(record: TrialRecord, *, epochs: int, pareto: Sequence[ParetoValue] = ()) -> tuple[Values, ...]:
    """Return the values of a trial so far after each of its epochs; the worst for all if it failed.

    Args:
        record: Of a trial.
        epochs: Those of a trial that is never stopped early.
        pareto: What designs are traded off by, if not the score alone counts.
    """
    if record.outcome == "failed":
        return (values_so_far((), pareto),) * epochs
    return tuple(values_so_far(record.history[:epoch], pareto) for epoch in range(1, len(record.history) + 1))


def comparable_values(
    curves: Mapping[Key, Sequence[Values]], rungs: Sequence[int], *, at_least: int
) -> dict[Key, Values]:
    """Return what trials reached by the same epoch.

    Trials that halving has cut differ in length, and the longer ones would look better for that alone.

    Args:
        curves: Values so far after every epoch, by trial; none is empty.
        rungs: Epochs after which trials were cut, the first first; where there are none, trials are compared
            by the end of their curves.
        at_least: So many trials must have come to a rung, or an earlier one is taken; the first at any rate.

    Source: Falkner et al. 2018, arXiv:1807.01774 (BOHB): the largest budget with enough observations counts.
    """
    if not rungs:
        return {key: curve[-1] for key, curve in curves.items()}
    reached = {rung: {key: c[rung - 1] for key, c in curves.items() if len(c) >= rung} for rung in rungs}
    return next(
        (reached[rung] for rung in reversed(rungs) if len(reached[rung]) >= at_least), reached[rungs[0]]
    )


def best_epoch(history: History) -> EpochReport | None:
    """Return the epoch with the best score, the first among equals; None if no epoch is sound."""
    finite = [report for report in history if math.isfinite(report.metrics[SCORE]) and _is_sound(report)]
    return max(finite, key=lambda report: report.metrics[SCORE], default=None)


def divergence(history: History) -> str | None:
    """Return why a training is beyond saving, from its last epoch; None if it is not."""
    if not history or (_is_sound(history[-1]) and math.isfinite(history[-1].metrics[SCORE])):
        return None
    last = history[-1]
    return (
        f"loss and score must stay finite, got {last.metrics['train/loss']} and {last.metrics[SCORE]} "
        f"in epoch {last.epoch}; lower the learning rate"
    )


def outcome_of(history: History, *, epochs: int) -> tuple[Outcome, str | None]:
    """Return how a trial that was not broken ended, with the cause if it failed.

    Args:
        history: All its epochs.
        epochs: Those of a trial that is never stopped early.
    """
    cause = divergence(history)
    if cause is not None:
        return "failed", cause
    return ("finished" if len(history) >= epochs else "stopped"), None


def _is_sound(report: EpochReport) -> bool:
    return math.isfinite(report.metrics["train/loss"])
