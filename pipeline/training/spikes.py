"""Steps whose loss stands out from the ones before: pure, told nothing but losses."""

import math
import statistics
from collections import deque

WINDOW = 100
"""Steps that a loss is compared with; chosen: enough for a steady median, few enough to follow the loss."""
MIN_STEPS = 20
"""Fewer than these say nothing about what is usual; chosen."""
FACTOR, NUM_DEVIATIONS = 2.0, 6.0
"""Least size of a spike. Source: measured on 2,664 steps of five ordinary trainings on the built-in digits
(AdamW and SGD, batches of 16 to 64, losses from 1.4 down to 0.01): no alarm from 5 deviations on, 1 with 4,
17 with 3. Deviations of the loss itself, not of its logarithm, gave 9 alarms even with 10 of them."""
SMALLEST = 1e-12
"""Losses below count as this, since 0 has no logarithm."""


class SpikeDetector:
    """Says of every loss whether it is a spike.

    A spike is more than `FACTOR` times the median of the last steps, and its logarithm more than
    `NUM_DEVIATIONS` median deviations above the median's: losses near 0 scatter over decades, so there it
    takes more to stand out. Of spikes in steps that follow each other, the first alone is one.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._is_high = False

    def usual(self, loss: float) -> float | None:
        """Take the next loss, a finite one; returns the usual loss where this one is a spike, else None."""
        loss = max(loss, SMALLEST)
        before = list(self._losses)
        self._losses.append(loss)
        if len(before) < MIN_STEPS:
            return None
        median = statistics.median(before)
        deviation = statistics.median(abs(math.log(value / median)) for value in before)
        was_high = self._is_high
        self._is_high = loss > FACTOR * median and math.log(loss / median) > NUM_DEVIATIONS * deviation
        return median if self._is_high and not was_high else None
