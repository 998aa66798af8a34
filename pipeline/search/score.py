"""The one number by which trials are compared, from the epochs of a trial: pure functions.

Every epoch's `score` is the hypervolume over all profiles. A trial is worth its best epoch, because
that is the checkpoint that a training keeps.
"""

import math

from pipeline.training.checkpoint import EpochReport, History
from pipeline.training.worker import SCORE

from .record import Outcome

FAILED_SCORE = 0.0
"""Score of a trial that broke or diverged: the worst there is, and a number, which the sampler needs."""


def score_so_far(history: History) -> float:
    """Return the best score of a trial, in [0, 1]; 0 if its last epoch diverged."""
    best = best_epoch(history)
    return best.metrics[SCORE] if best and divergence(history) is None else FAILED_SCORE


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
