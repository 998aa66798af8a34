"""Following a job while it runs: to the user, and to its runs in MLflow."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.registry.tracking import EndStatus, JobRun
from pipeline.search.record import Outcome
from pipeline.training.checkpoint import EpochReport
from pipeline.training.progress import Progress

log = logging.getLogger(__name__)

NUM_BEST = 5
"""Of the splits that are told; chosen."""

TRIAL_STATUS: dict[Outcome, EndStatus] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class Reporter(Protocol):
    """Who tells the user how a job goes."""

    def say(self, text: str) -> None:
        """Tell a fact, once."""

    def advance(self, what: str, done: float, total: float) -> None:
        """Tell how far something long is."""


def log_history(run: JobRun, history: Sequence[EpochReport]) -> None:
    """Log epochs to MLflow; what is there already is not logged twice."""
    for report in history:
        run.log_epoch(run.run_id, report.metrics, step=report.epoch, timestamp_ms=report.timestamp_ms)


def describe_epoch(metrics: Mapping[str, float]) -> str:
    """Return an epoch's result as text."""
    return (
        f"full {metrics['full/top1']:.4f}  base {metrics['base/top1']:.4f}  "
        f"loss {metrics['train/loss']:.4f}  {metrics['epoch_s']:.0f} s"
    )


def describe_values(values: Mapping[str, Any]) -> str:
    """Return a trial's settings as text."""
    return "  ".join(f"{key.removeprefix('training.')} {_short(value)}" for key, value in values.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class EpochLog:
    """Follows the final training: to the user and, as far as MLflow answers, to its run."""

    def __init__(self, run: JobRun, reporter: Reporter, *, epochs: int) -> None:
        self._run = run
        self._reporter = reporter
        self._epochs = epochs

    def __call__(self, progress: Progress) -> None:
        """Tell the news; the whole history is logged again at the end, so nothing depends on this."""
        for note in progress.notes:
            self._reporter.say(note)
        for report in progress.reports:
            self._reporter.say(f"epoch {report.epoch}/{self._epochs}  {describe_epoch(report.metrics)}")
        done = max(progress.epoch - 1, 0) + progress.step / progress.num_steps
        self._reporter.advance("training", done, self._epochs)
        try:
            log_history(self._run, progress.reports)
        except Exception:  # an outage of the registry must not end a training
            log.warning("epochs %s not logged yet", [r.epoch for r in progress.reports], exc_info=True)


class WarmupLog:
    """Tells the user how the training of all splits at once goes."""

    def __init__(self, reporter: Reporter, *, epochs: int) -> None:
        self._reporter = reporter
        self._epochs = epochs

    def on_progress(self, progress: Progress) -> None:
        """Tell the news."""
        for report in progress.reports:
            told = describe_epoch(report.metrics)
            self._reporter.say(f"all splits at once  epoch {report.epoch}/{self._epochs}  {told}")
        done = max(progress.epoch - 1, 0) + progress.step / progress.num_steps
        self._reporter.advance("training all splits at once", done, self._epochs)

    def on_scores(self, scores: Mapping[tuple[int, ...], float]) -> None:
        """Tell the best splits."""
        best = [f"{list(split)} {score:.4f}" for split, score in list(scores.items())[:NUM_BEST]]
        self._reporter.say(f"{len(scores)} splits scored, the best: {', '.join(best)}")


class TrialLog:
    """Follows the trials of a search: to the user and to nested runs in MLflow."""

    def __init__(self, run: JobRun, reporter: Reporter, *, trials: int, epochs: int) -> None:
        self._run = run
        self._reporter = reporter
        self._trials = trials
        self._epochs = epochs
        self._runs: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._seen: set[tuple[str, int]] = set()
        self._ended: set[str] = set()

    def on_start(self, trial_id: str, number: int, values: Mapping[str, Any]) -> None:
        """Open the trial's nested run."""
        if trial_id in self._labels:
            return
        is_repeat = number >= self._trials
        name = f"repeat {number - self._trials + 1}" if is_repeat else f"trial {number + 1}"
        self._runs[trial_id] = self._run.trial(trial_id, dict(values), name=name)
        self._labels[trial_id] = name if is_repeat else f"{name}/{self._trials}"
        self._reporter.say(f"{self._labels[trial_id]}  {describe_values(values)}")

    def on_epoch(self, trial_id: str, metrics: Mapping[str, float], *, epoch: int, timestamp_ms: int) -> None:
        """Log an epoch of a trial."""
        self._run.log_epoch(self._runs[trial_id], metrics, step=epoch, timestamp_ms=timestamp_ms)
        if (trial_id, epoch) in self._seen:
            return
        self._seen.add((trial_id, epoch))
        name = self._labels[trial_id]
        score = f"score {metrics['score']:.4f}"
        self._reporter.say(f"{name}  epoch {epoch}/{self._epochs}  {score}  {describe_epoch(metrics)}")

    def on_end(self, trial_id: str, outcome: Outcome, cause: str | None) -> None:
        """Close the trial's nested run."""
        self._run.end_trial(trial_id, TRIAL_STATUS[outcome])
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        because = f": {cause}" if cause else ""
        self._reporter.say(f"{self._labels[trial_id]}  {outcome}{because}")
        self._reporter.advance("search", len(self._ended), max(self._trials, len(self._labels)))
