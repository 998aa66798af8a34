"""Following a job while it runs: to the user, and to its runs in MLflow."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.baselines.record import BaselineRecord
from pipeline.baselines.trainings import BaselineTraining
from pipeline.registry import tags
from pipeline.registry.outbox import Outbox
from pipeline.registry.tracking import EndStatus, JobRun
from pipeline.reporter import Reporter
from pipeline.search.record import Outcome
from pipeline.search.settings import describe_values
from pipeline.search.sweep import trial_name
from pipeline.training.epochs import ALONE, EpochReport
from pipeline.training.progress import Progress

NUM_BEST = 5
"""Of the splits that are told; chosen."""

TRIAL_STATUS: dict[Outcome, EndStatus] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


def log_history(run: JobRun, history: Sequence[EpochReport]) -> None:
    """Log epochs of the final training to MLflow; what is there already is not logged twice."""
    for report in history:
        run.log_epoch(run.run_id, report.metrics, step=report.epoch, timestamp_ms=report.timestamp_ms)


def describe_epoch(metrics: Mapping[str, float]) -> str:
    """Return an epoch's result as text."""
    return f"{describe_accuracy(metrics)}  loss {metrics['train/loss']:.4f}  {metrics['epoch_s']:.0f} s"


def describe_accuracy(metrics: Mapping[str, float]) -> str:
    """Return what both extremes reach, or a network of one depth alone, as text."""
    depths = [depth for depth in ("full", "base", ALONE) if f"{depth}/top1" in metrics]
    return "  ".join(f"{depth} {metrics[f'{depth}/top1']:.4f}" for depth in depths)


def trial_run_name(number: int, values: Mapping[str, Any], *, trials: int) -> str:
    """Return what a trial's run in MLflow is called; names sort as trials do.

    Args:
        number: From 0; the repeats come after the trials.
        values: What it tries, by dotted key.
        trials: Of the search.
    """
    width = max(2, len(str(trials)))
    is_repeat = number >= trials
    label = f"repeat {number - trials + 1:0{width}}" if is_repeat else f"trial {number + 1:0{width}}"
    told = [tell(values[key]) for key, tell in NAMING.items() if key in values]
    return " · ".join([label, *told])


def trial_tags(number: int, values: Mapping[str, Any], *, trials: int) -> dict[str, str]:
    """Return the tags of a trial's run in MLflow; arguments as for `trial_run_name`."""
    split = {tags.SPLIT: text_of_split(values["split"])} if "split" in values else {}
    return {tags.KIND: "repeat" if number >= trials else "trial", **split}


def text_of_split(split: Sequence[int] | str) -> str:
    """Return a split as one word: `paper`, or such as `2,1,2,1`."""
    return split if isinstance(split, str) else ",".join(map(str, split))


NAMING: dict[str, Callable[[Any], str]] = {
    "backbone.name": str,
    "split": text_of_split,
    "training.optimizer": str,
    "training.lr": lambda lr: f"lr {lr:.2g}",
}
"""What of its values a trial is named by, where they are searched: short, and apart from each other."""


class EpochLog:
    """Follows the final training: to the user and, as soon as MLflow answers, to its run."""

    def __init__(self, run: JobRun, outbox: Outbox, reporter: Reporter, *, epochs: int) -> None:
        self._run = run
        self._outbox = outbox
        self._reporter = reporter
        self._epochs = epochs
        self._reached = ""

    def __call__(self, progress: Progress) -> None:
        """Tell the news; the whole history is told again at the end, so nothing depends on this."""
        for note in progress.notes:
            self._reporter.say(note)
        for report in progress.reports:
            self._reporter.say(f"epoch {report.epoch}/{self._epochs}  {describe_epoch(report.metrics)}")
            self._reached = describe_accuracy(report.metrics)
        done = max(progress.epoch - 1, 0) + progress.step / progress.num_steps
        self._reporter.advance("training", done, self._epochs, self._reached)
        if progress.reports:
            self._outbox.put(partial(log_history, self._run, progress.reports))


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


class BaselineLog:
    """Follows a training of a comparison: to the user and, as soon as MLflow answers, to its nested run."""

    def __init__(
        self, run: JobRun, outbox: Outbox, reporter: Reporter, training: BaselineTraining, *, epochs: int
    ) -> None:
        self._run = run
        self._outbox = outbox
        self._reporter = reporter
        self._training = training
        self._epochs = epochs
        self._run_key = f"baseline-{training.name}"

    def on_start(self) -> None:
        """Open the nested run."""
        kind = "adaptive" if self._training.subject == "adaptive" else "alone"
        profile = "full and base" if kind == "adaptive" else self._training.subject
        params = {"profile": profile, "trained": kind, "seed": self._training.seed}
        name = f"baseline {self._training}"
        open_run = partial(self._run.trial, self._run_key, params, name=name, tags={tags.KIND: "baseline"})
        self._outbox.put(open_run)

    def __call__(self, progress: Progress) -> None:
        """Tell the news; the whole history is told again at the end, so nothing depends on this."""
        for note in progress.notes:
            self._reporter.say(note)
        for report in progress.reports:
            told = describe_epoch(report.metrics)
            self._reporter.say(f"{self._training}  epoch {report.epoch}/{self._epochs}  {told}")
        done = max(progress.epoch - 1, 0) + progress.step / progress.num_steps
        self._reporter.advance(f"training {self._training}", done, self._epochs)
        self._log(progress.reports)

    def on_end(self, history: Sequence[EpochReport]) -> None:
        """Log all epochs and close the nested run."""
        self._log(history)
        self._outbox.put(partial(self._run.end_trial, self._run_key, "FINISHED"))

    def tell_again(self, record: BaselineRecord) -> None:
        """Tell MLflow of a training that ended in an earlier command, if it has not heard of its end."""
        if self._run_key not in self._run.ended_trials:
            self.on_start()
            self.on_end(record.history)

    def _log(self, history: Sequence[EpochReport]) -> None:
        for report in history:
            log = partial(
                self._run.log_trial_epoch,
                self._run_key,
                report.metrics,
                step=report.epoch,
                timestamp_ms=report.timestamp_ms,
            )
            self._outbox.put(log)


class TrialLog:
    """Follows the trials of a search: to the user and, as soon as MLflow answers, to nested runs.

    MLflow is told in order, so a nested run that ended has all of its trial's epochs.
    """

    def __init__(self, run: JobRun, outbox: Outbox, reporter: Reporter, *, trials: int, epochs: int) -> None:
        self._run = run
        self._outbox = outbox
        self._reporter = reporter
        self._trials = trials
        self._epochs = epochs
        self._labels: dict[str, str] = {}
        self._seen: set[tuple[str, int]] = set()
        self._ended: set[str] = set()

    def on_start(self, trial_id: str, number: int, values: Mapping[str, Any]) -> None:
        """Open the trial's nested run."""
        if trial_id in self._labels:
            return
        name = trial_name(number, num_trials=self._trials)
        self._labels[trial_id] = f"{name}/{self._trials}" if number < self._trials else name
        open_trial = partial(
            self._run.trial,
            trial_id,
            dict(values),
            name=trial_run_name(number, values, trials=self._trials),
            tags=trial_tags(number, values, trials=self._trials),
        )
        self._tell(trial_id, open_trial)
        self._reporter.say(f"{self._labels[trial_id]}  {describe_values(values)}")

    def on_epoch(self, trial_id: str, metrics: Mapping[str, float], *, epoch: int, timestamp_ms: int) -> None:
        """Log an epoch of a trial."""
        if (trial_id, epoch) in self._seen:
            return
        self._seen.add((trial_id, epoch))
        log = partial(self._run.log_trial_epoch, trial_id, metrics, step=epoch, timestamp_ms=timestamp_ms)
        self._tell(trial_id, log)
        name = self._labels[trial_id]
        score = f"score {metrics['score']:.4f}"
        self._reporter.say(f"{name}  epoch {epoch}/{self._epochs}  {score}  {describe_epoch(metrics)}")

    def on_pause(self, trial_id: str) -> None:
        """Nothing is said of it: what it reached was told."""

    def on_resume(self, trial_id: str) -> None:
        """Nothing is said of it: its next epoch is told."""

    def on_end(self, trial_id: str, outcome: Outcome, cause: str | None) -> None:
        """Close the trial's nested run."""
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        end_trial = partial(
            self._run.end_trial,
            trial_id,
            TRIAL_STATUS[outcome],
            tags={tags.OUTCOME: outcome},
            description=cause or "",
        )
        self._tell(trial_id, end_trial)
        because = f": {cause}" if cause else ""
        self._reporter.say(f"{self._labels[trial_id]}  {outcome}{because}")

    def _tell(self, trial_id: str, call: Callable[[], object]) -> None:
        if trial_id not in self._run.ended_trials:
            self._outbox.put(call)
