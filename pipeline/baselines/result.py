"""What networks trained alone reach, and what the adaptive network gains over them: numbers, nothing else."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from scipy.special import stdtrit

Depth = Literal["full", "base"]
Kind = Literal["alone", "adaptive"]

DEPTHS: tuple[Depth, ...] = ("full", "base")
CONFIDENCE = 0.95
"""With which a gain is said to be more than noise."""


@dataclass(frozen=True)
class BaselineRun:
    """What one depth reached in one training; an adaptive training has a row for each of its two depths.

    Attributes:
        profile: The depth.
        kind: Trained alone, or as a depth of the adaptive network.
        seed: Of the training.
        top1: Of the best checkpoint on the validation images, in [0, 1].
        best_epoch: Which epoch that is, from 1.
        epochs: That were trained.
        train_s: Seconds of the whole training, validation included.
    """

    profile: Depth
    kind: Kind
    seed: int
    top1: float
    best_epoch: int
    epochs: int
    train_s: float


@dataclass(frozen=True)
class Spread:
    """Several values: their mean, and their standard deviation, which a single one has not."""

    mean: float
    std: float | None
    num: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))


@dataclass(frozen=True)
class Comparison:
    """One depth: as part of the adaptive network against a network of its own.

    Attributes:
        profile: The depth.
        alone: Top-1 of the networks trained alone.
        adaptive: Top-1 of the adaptive networks at this depth.
        gain: Mean of adaptive minus alone, over the seeds that both have.
        gain_error: Standard error of that mean; None with a single seed.
        num_pairs: How many seeds both have.
    """

    profile: Depth
    alone: Spread
    adaptive: Spread
    gain: float
    gain_error: float | None
    num_pairs: int

    @property
    def is_beyond_noise(self) -> bool | None:
        """Whether the gain or loss is significant (paired t-test, 95 %); None with a single seed."""
        if self.gain_error is None:
            return None
        quantile = float(stdtrit(self.num_pairs - 1, (1 + CONFIDENCE) / 2))
        return abs(self.gain) > quantile * self.gain_error


@dataclass(frozen=True)
class TrainingCost:
    """Worker-hours: of one adaptive training, and of separate networks in its place.

    Attributes:
        adaptive_h: Of an adaptive training, for all depths; the mean over seeds.
        pair_h: Of `full` and `base` alone, one after the other.
        every_depth_h: Of all 2^N depths alone, with the time in proportion to the multiply-adds: these are
            additive over stages, so the mean depth costs the mean of `full` and `base`.
    """

    adaptive_h: float
    pair_h: float
    every_depth_h: float


@dataclass(frozen=True)
class Baselines:
    """All runs of a comparison.

    Attributes:
        runs: In no particular order.
        workers: That each training had.
        num_profiles: Depths of the adaptive network, 2^N.
    """

    runs: tuple[BaselineRun, ...]
    workers: int
    num_profiles: int

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The depths that both kinds have with a common seed, `full` first."""
        return tuple(found for profile in DEPTHS if (found := self._compare(profile)))

    @property
    def cost(self) -> TrainingCost | None:
        """What the trainings took; None while a kind or depth is missing."""
        hours = {
            (profile, kind): [run.train_s * self.workers / 3600 for run in self._runs(profile, kind)]
            for profile, kind in (("full", "adaptive"), ("full", "alone"), ("base", "alone"))
        }
        if not all(hours.values()):
            return None
        adaptive_h, full_h, base_h = map(statistics.fmean, hours.values())
        pair_h = full_h + base_h
        return TrainingCost(adaptive_h, pair_h, self.num_profiles * pair_h / 2)

    def to_json(self) -> str:
        """Return the result as text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Baselines":
        """Return the result that `to_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "runs": tuple(BaselineRun(**row) for row in data["runs"])})

    def _runs(self, profile: str, kind: str) -> Iterable[BaselineRun]:
        return (run for run in self.runs if (run.profile, run.kind) == (profile, kind))

    def _compare(self, profile: Depth) -> Comparison | None:
        alone = {run.seed: run.top1 for run in self._runs(profile, "alone")}
        adaptive = {run.seed: run.top1 for run in self._runs(profile, "adaptive")}
        gains = [adaptive[seed] - alone[seed] for seed in alone.keys() & adaptive.keys()]
        if not gains:
            return None
        gain = Spread.of(gains)
        return Comparison(
            profile,
            Spread.of(list(alone.values())),
            Spread.of(list(adaptive.values())),
            gain.mean,
            None if gain.std is None else gain.std / math.sqrt(gain.num),
            gain.num,
        )
