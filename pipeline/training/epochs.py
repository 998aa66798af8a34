"""How far a training is, as plain data: nothing here needs torch, whose import takes seconds and 600 MB."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

UPDATES = "updates"
"""Metric of a checkpoint within an epoch alone."""
SCORE = "score"
"""The metric by which the best checkpoint is chosen: the run's objective."""
ALONE = "alone"
"""Takes the place of `full` and `base` in the metrics of a network of one depth."""
USES_EMA = "uses_ema"
"""Metric of an epoch with a moving average: 1 where that is better than the weights themselves, else 0."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch brought.

    Attributes:
        epoch: From 1.
        metrics: Numbers by name, such as `full/top1`.
        timestamp_ms: When the epoch ended, in Unix time.
    """

    epoch: int
    metrics: dict[str, float]
    timestamp_ms: int

    @property
    def uses_ema(self) -> bool:
        """Whether the metrics are those of the weights' moving average."""
        return self.metrics.get(USES_EMA, 0) > 0

    def to_metrics(self) -> dict[str, float]:
        """Return all of it as the flat metrics that Ray Train carries."""
        return {"epoch": self.epoch, "timestamp_ms": self.timestamp_ms, **self.metrics}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float]) -> "EpochReport":
        """Return the report that `to_metrics` made flat."""
        rest = {name: value for name, value in metrics.items() if name not in ("epoch", "timestamp_ms")}
        return cls(int(metrics["epoch"]), rest, int(metrics["timestamp_ms"]))


History = tuple[EpochReport, ...]


@dataclass(frozen=True)
class Reached:
    """How far a training is.

    Attributes:
        history: Epochs that ended.
        updates: Updates of the next epoch that are done; 0 at the end of an epoch.
        loss_sum: The sum of their losses, the mean over all workers.
    """

    history: History = ()
    updates: int = 0
    loss_sum: float = 0.0

    def __str__(self) -> str:
        return f"epoch {len(self.history)}" + (f" and {self.updates} updates" if self.updates else "")

    def with_epoch(self, metrics: dict[str, float]) -> "Reached":
        """Return this with one more epoch, which ends now."""
        report = EpochReport(len(self.history) + 1, metrics, now_ms())
        return Reached((*self.history, report))

    def to_metrics(self) -> dict[str, float]:
        """Return what Ray Train is told: the epoch that ended, or how far the next one is."""
        if not self.updates:
            return self.history[-1].to_metrics()
        return {"epoch": len(self.history), "timestamp_ms": now_ms(), UPDATES: self.updates}


def ends_epoch(metrics: Mapping[str, float]) -> bool:
    """Return whether these metrics, as Ray Train carries them, are those of an epoch that ended."""
    return UPDATES not in metrics


def now_ms() -> int:
    """Return the Unix time."""
    return time.time_ns() // 1_000_000
