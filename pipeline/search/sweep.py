"""Where a sweep is, as a plain value: what a live view shows, made of what an observer is told."""

import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from cluster.usage import Usage

from .record import Outcome

TrialState = Literal["running", "waiting"] | Outcome
"""`waiting` trials go on if a place becomes free for them, see `halving`; the others are as in a record."""


@dataclass(frozen=True)
class EpochScore:
    """What an epoch of a trial brought: score and top-1 of both extremes, in [0, 1], and when it ended."""

    score: float
    full: float
    base: float
    end_s: float


@dataclass(frozen=True)
class TrialStatus:
    """A trial, as far as it has come.

    Attributes:
        number: From 0.
        name: As the user is told, such as `trial 1`.
        values: What was searched, by dotted key of the job file.
        state: Whether it runs, waits, or how it ended.
        epochs: What they brought, the first one first.
        cause: Why it failed.
    """

    number: int
    name: str
    values: Mapping[str, Any]
    state: TrialState = "running"
    epochs: tuple[EpochScore, ...] = ()
    cause: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it trains no more."""
        return self.state not in ("running", "waiting")

    @property
    def best(self) -> EpochScore | None:
        """The epoch with the highest score; None without a finite one."""
        finite = [epoch for epoch in self.epochs if math.isfinite(epoch.score)]
        return max(finite, key=lambda epoch: epoch.score, default=None)


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep is.

    Attributes:
        job: Name of the job.
        num_trials: How many there will be, repeats left out.
        max_epochs: Of a trial that is never stopped.
        start_s: When this command began with trials, in Unix time.
        trials: Those that have started, by number; numbers from `num_trials` are repeats.
        usage: What of the cluster is in use; None while nobody knows.
    """

    job: str
    num_trials: int
    max_epochs: int
    start_s: float
    trials: tuple[TrialStatus, ...] = ()
    usage: Usage | None = None

    @property
    def counts(self) -> Counter[TrialState]:
        """How many trials are in which state."""
        return Counter(trial.state for trial in self.trials)

    @property
    def total(self) -> int:
        """How many trials there will be, with the repeats that have started."""
        return max(self.num_trials, len(self.trials))

    @property
    def epochs_done(self) -> int:
        """Epochs of all trials."""
        return sum(len(trial.epochs) for trial in self.trials)

    @property
    def epochs_left(self) -> float:
        """Epochs that are still expected.

        A trial is expected to come as far as, on average, those came that were over and had outlived it: all
        epochs where there is none. One that has not started counts as one without epochs.
        """
        lengths = [len(trial.epochs) for trial in self.trials if trial.is_over and trial.state != "failed"]
        open_ones = [len(trial.epochs) for trial in self.trials if not trial.is_over]
        open_ones += [0] * (self.total - len(self.trials))
        return sum(expected_length(done, lengths, most=self.max_epochs) - done for done in open_ones)

    def left_s(self, now_s: float) -> float | None:
        """Return the seconds that are left at the pace of this command so far; None before its first epoch.

        Epochs of earlier commands say nothing about it. A failed trial's epochs took their time as well.

        Args:
            now_s: In Unix time.
        """
        done = sum(epoch.end_s > self.start_s for trial in self.trials for epoch in trial.epochs)
        return (now_s - self.start_s) / done * self.epochs_left if done else None

    @property
    def best(self) -> TrialStatus | None:
        """The trial with the highest score so far, repeats and failures left out."""
        scored = [(trial.best.score, trial) for trial in self._candidates() if trial.best]
        return max(scored, key=lambda pair: (pair[0], -pair[1].number))[1] if scored else None

    @property
    def best_scores(self) -> tuple[float, ...]:
        """The best score so far after every epoch of all trials, in the order in which they ended."""
        epochs = [epoch for trial in self._candidates() for epoch in trial.epochs]
        in_order = sorted(epochs, key=lambda epoch: epoch.end_s)
        return tuple(accumulate((e.score for e in in_order if math.isfinite(e.score)), max))

    def _candidates(self) -> list[TrialStatus]:
        return [trial for trial in self.trials if trial.number < self.num_trials and trial.state != "failed"]


def expected_length(done: int, lengths: list[int], *, most: int) -> float:
    """Return how many epochs a trial is expected to have in the end.

    Args:
        done: Epochs that it has.
        lengths: Epochs of trials that are over.
        most: Epochs of a trial that is never stopped.
    """
    outlived = [length for length in lengths if length > done]
    return statistics.fmean(outlived) if outlived else max(most, done)


class SweepBoard:
    """An observer that knows where a sweep is; what it is told twice changes nothing.

    Args:
        job: Name of the job.
        num_trials: How many there will be, repeats left out.
        max_epochs: Of a trial that is never stopped.
        usage: Says at once what of the cluster is in use.
    """

    def __init__(
        self, job: str, *, num_trials: int, max_epochs: int, usage: Callable[[], Usage | None] = lambda: None
    ) -> None:
        self._start = SweepStatus(job, num_trials, max_epochs, start_s=time.time())
        self._usage = usage
        self._trials: dict[str, TrialStatus] = {}
        self._lock = threading.Lock()

    def look(self) -> SweepStatus:
        """Return where the sweep is now; may be called from any thread."""
        with self._lock:
            trials = sorted(self._trials.values(), key=lambda trial: trial.number)
        return replace(self._start, trials=tuple(trials), usage=self._usage())

    def on_start(self, trial_id: str, number: int, values: Mapping[str, Any]) -> None:
        """A trial starts."""
        name = trial_name(number, num_trials=self._start.num_trials)
        with self._lock:
            if not self._trials:
                self._start = replace(self._start, start_s=time.time())
            self._trials.setdefault(trial_id, TrialStatus(number, name, dict(values)))

    def on_pause(self, trial_id: str) -> None:
        """A trial waits."""
        self._change(trial_id, state="waiting")

    def on_resume(self, trial_id: str) -> None:
        """A trial goes on."""
        self._change(trial_id, state="running")

    def on_epoch(self, trial_id: str, metrics: Mapping[str, float], *, epoch: int, timestamp_ms: int) -> None:
        """A trial ended an epoch."""
        known = self._trials[trial_id].epochs
        if epoch > len(known):
            brought = EpochScore(
                metrics["score"], metrics["full/top1"], metrics["base/top1"], timestamp_ms / 1000
            )
            self._change(trial_id, epochs=(*known, brought))

    def on_end(self, trial_id: str, outcome: Outcome, cause: str | None) -> None:
        """A trial ended."""
        self._change(trial_id, state=outcome, cause=cause)

    def _change(self, trial_id: str, **changes: Any) -> None:  # noqa: ANN401
        with self._lock:
            self._trials[trial_id] = replace(self._trials[trial_id], **changes)


def trial_name(number: int, *, num_trials: int) -> str:
    """Return what the user is told a trial is called; repeats come after the trials."""
    return f"trial {number + 1}" if number < num_trials else f"repeat {number - num_trials + 1}"
