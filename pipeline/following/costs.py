"""What a batch costs where the model runs, by profile and number of images."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Images of the batches that are measured; chosen: an accelerator gains little beyond, a CPU before."""

NUM_WARMUP, NUM_RUNS = 2, 12
"""Calls of each; chosen: all profiles are measured in seconds."""

NEAR_BEST = 1.05
"""A batch counts as large enough where an image costs at most this much of the least; chosen."""


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one batch.

    Attributes:
        measured_ms: By profile and number of images, one image included; a larger batch never costs less.
        macs: Multiply-adds for one image of every profile, measured or not.
    """

    measured_ms: Mapping[str, Mapping[int, float]]
    macs: Mapping[str, int]

    def batch_ms(self, profile: str, num_images: int) -> float:
        """Return what a batch costs: on the line between measured sizes, in proportion beyond the largest.

        A profile that was not measured costs as much more than the nearest one that was as it has more
        multiply-adds.
        """
        if profile not in self.measured_ms:
            near = min(self.measured_ms, key=lambda other: abs(self.macs[other] - self.macs[profile]))
            return self.batch_ms(near, num_images) * self.macs[profile] / self.macs[near]
        measured_ms = self.measured_ms[profile]
        sizes = sorted(measured_ms)
        if num_images >= sizes[-1]:
            return measured_ms[sizes[-1]] * num_images / sizes[-1]
        above = sizes[bisect_left(sizes, num_images)]
        if above <= num_images:
            return measured_ms[above]
        below = sizes[sizes.index(above) - 1]
        share = (num_images - below) / (above - below)
        return measured_ms[below] + share * (measured_ms[above] - measured_ms[below])

    def best_batch(self, profile: str, limit_ms: float) -> int:
        """Return how many images a batch should have.

        That is the fewest that cost hardly more an image than any other number within the limit; 1 where
        nothing is within it.
        """
        within = [size for size in self._sizes() if self.batch_ms(profile, size) <= limit_ms]
        if not within:
            return 1
        image_ms = {size: self.batch_ms(profile, size) / size for size in within}
        return next(size for size in within if image_ms[size] <= NEAR_BEST * min(image_ms.values()))

    def _sizes(self) -> list[int]:
        return sorted(next(iter(self.measured_ms.values())))


def measure_costs(
    run: Callable[[str, int], object],
    macs: Mapping[str, int],
    profiles: list[str],
    on_progress: Callable[[int, int], None],
) -> Costs:
    """Time batches of every profile, one after the other.

    Args:
        run: Runs one batch at a profile with a number of images, and returns when it is done.
        macs: Multiply-adds for one image of every profile.
        profiles: To be measured.
        on_progress: Told how many of how many measurements are done.
    """
    measured_ms: dict[str, dict[int, float]] = {}
    total = len(profiles) * len(BATCH_SIZES)
    for profile in profiles:
        row: dict[int, float] = {}
        for size in BATCH_SIZES:
            # A larger batch that seems to be quicker was lucky.
            row[size] = max(_p95_ms(partial(run, profile, size)), *row.values(), 0.0)
            on_progress(len(measured_ms) * len(BATCH_SIZES) + len(row), total)
        measured_ms[profile] = row
    return Costs(measured_ms, macs)


def _p95_ms(call: Callable[[], object]) -> float:
    times_ms = []
    for _ in range(NUM_WARMUP + NUM_RUNS):
        start_s = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - start_s) * 1000)
    return percentile(times_ms[NUM_WARMUP:], 95)


def percentile(values: list[float], percent: int) -> float:
    """Return the smallest of the values that so many percent of them do not exceed; there is one at least."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
