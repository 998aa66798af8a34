"""Steps whose loss stands out from the ones before: pure, told nothing but losses."""

import statistics
from collections import deque

WINDOW = 100
"""Steps that a loss is compared with; chosen: enough for a steady median, few enough to follow the loss."""
MIN_STEPS = 20
"""Fewer than these say nothing about what is usual; chosen."""
FACTOR, NUM_DEVIATIONS = 2.0, 10.0


class SpikeDetector:
    """Says of every loss whether it is a spike.

    A spike is more than `FACTOR` times the median of the last steps, and more than `NUM_DEVIATIONS` median
    deviations above it: the first alone would fire where losses are near 0 and scatter over decades, the
    second alone where they hardly scatter. Of steps that follow each other, the first alone is reported.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._is_high = False

    def usual(self, loss: float) -> float | None:
        """Take the next loss; returns the usual one if this is the first step of a spike, else None."""
        before = list(self._losses)
        self._losses.append(loss)
        if len(before) < MIN_STEPS:
            return None
        median = statistics.median(before)
        deviation = statistics.median(abs(value - median) for value in before)
        was_high = self._is_high
        self._is_high = loss > max(FACTOR * median, median + NUM_DEVIATIONS * deviation)
        return median if self._is_high and not was_high else None
