"""Which of a run's checkpoints is the best: by one metric, and whole."""

import logging
import math
from collections.abc import Sequence
from typing import Literal

from pipeline.storage import StoragePath

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
    sign = -1 if order == "max" else 1
    ranked = sorted(rated, key=lambda one: sign * one[1] if math.isfinite(one[1]) else math.inf)
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
