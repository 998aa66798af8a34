"""Which of a run's checkpoints or epochs is the best: by one metric; of checkpoints, a whole one."""

import logging
import math
from collections.abc import Sequence
from typing import Literal

from pipeline.storage import StoragePath

from .epochs import EpochReport, History
from .manifest import CheckpointError, Manifest, at_hand

log = logging.getLogger(__name__)


def best_checkpoint(
    rated: Sequence[tuple[StoragePath, float]], *, order: Literal["max", "min"]
) -> StoragePath:
    """Return the whole checkpoint with the best value, the first among equals.

    Args:
        rated: Folders with their value of the metric; at least one.
        order: Whether the largest or the smallest value is the best; one that is not finite is the worst.

    Raises:
        CheckpointError: If none of them is whole; the best one's.
    """
    ranked = sorted(rated, key=lambda one: _rank(one[1], order))
    refusals: list[CheckpointError] = []
    for folder, _ in ranked:
        try:
            with at_hand(folder) as path:
                Manifest.load(path)
        except CheckpointError as error:
            log.warning("the next best checkpoint is taken: %s", error)
            refusals.append(error)
        else:
            return folder
    raise refusals[0]


def best_epoch(history: History, *, by: str, order: Literal["max", "min"]) -> EpochReport:
    """Return the epoch with the best value of a metric, the first among equals, as `best_checkpoint` ranks.

    Args:
        history: At least one epoch.
        by: Name of the metric.
        order: Whether the largest or the smallest value is the best.
    """
    return min(history, key=lambda report: _rank(report.metrics[by], order))


def _rank(value: float, order: Literal["max", "min"]) -> float:
    sign = -1 if order == "max" else 1
    return sign * value if math.isfinite(value) else math.inf
