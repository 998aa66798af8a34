"""Who is told about a sweep while it runs, such as the terminal and the tracking server."""

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.training.progress import Progress

from .record import Outcome, TrialRecord

_log = logging.getLogger(__name__)


class TrialObserver(Protocol):
    """Is told about every trial, in the process that called `run_search`.

    A sweep that goes on after a kill tells everything again, so every method must be idempotent.
    Trial ids are Ray's and stay the same. An exception is logged and never ends the sweep.
    """

    def on_start(self, trial_id: str, number: int, values: dict[str, Any]) -> None:
        """A trial starts, with values by dotted key of the job file; number 0 is the job's own design."""

    def on_epoch(self, trial_id: str, metrics: dict[str, float], *, epoch: int, timestamp_ms: int) -> None:
        """A trial ended an epoch (from 1), at a Unix time."""

    def on_pause(self, trial_id: str) -> None:
        """A trial waits, without processes."""

    def on_resume(self, trial_id: str) -> None:
        """A trial that waited goes on."""

    def on_end(self, trial_id: str, outcome: Outcome, cause: str | None) -> None:
        """A trial ended; failed ones have a cause."""


class WarmupObserver(Protocol):
    """Is told about the one-shot training before the first trial."""

    def on_progress(self, progress: Progress) -> None:
        """Steps were taken or epochs ended; called from a thread."""

    def on_scores(self, scores: Mapping[tuple[int, ...], float]) -> None:
        """Every split has its score, the best first."""


class GuardedObserver:
    """Hands on what happens to observers and logs what they raise.

    Args:
        *observers: Whom to tell, in this order.
    """

    def __init__(self, *observers: TrialObserver) -> None:
        self._observers = observers

    def started(self, record: TrialRecord) -> None:
        """Tell that a trial started."""
        for observer in self._observers:
            _guard(observer.on_start, record.trial_id, record.number, dict(record.values))

    def reported(self, record: TrialRecord, *, after: int) -> None:
        """Tell about all epochs of a trial after the one with this number."""
        for report, observer in itertools.product(record.history[after:], self._observers):
            _guard(
                observer.on_epoch,
                record.trial_id,
                report.metrics,
                epoch=report.epoch,
                timestamp_ms=report.timestamp_ms,
            )

    def paused(self, record: TrialRecord) -> None:
        """Tell that a trial waits."""
        for observer in self._observers:
            _guard(observer.on_pause, record.trial_id)

    def resumed(self, record: TrialRecord) -> None:
        """Tell that a trial goes on."""
        for observer in self._observers:
            _guard(observer.on_resume, record.trial_id)

    def ended(self, record: TrialRecord) -> None:
        """Tell that a trial ended."""
        for observer in self._observers:
            _guard(observer.on_end, record.trial_id, record.outcome, record.cause)

    def tell_again(self, record: TrialRecord) -> None:
        """Tell everything that is known about a trial of an earlier command; no process works on it yet."""
        self.started(record)
        self.reported(record, after=0)
        if record.outcome is None:
            self.paused(record)
        else:
            self.ended(record)


def _guard(tell: Callable[..., None], *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
    try:
        tell(*args, **kwargs)
    except Exception:  # noqa: BLE001  whatever an observer does wrong, the sweep is worth more
        _log.exception("an observer of the search failed; the search goes on")
