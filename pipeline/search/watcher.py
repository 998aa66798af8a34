"""The driver's eye on a sweep: turns what Ray Tune does into records and tells the observer."""

from pathlib import Path
from typing import Any

from ray import tune

from pipeline.storage import StoragePath
from pipeline.training.best import best_checkpoint
from pipeline.training.epochs import SCORE, History
from pipeline.training.manifest import at_hand
from pipeline.training.uploading import checkpoint_name

from .halving import Halving
from .observer import GuardedObserver
from .record import Outcome, TrialRecord, history_from_json
from .score import outcome_of, score_so_far
from .trial import FAILURE, HISTORY, TrialSetup, run_name
from .trial_job import trial_seed


class TrialWatcher(tune.Callback):  # type: ignore[misc]
    """A Tune callback, called in the driver process.

    Ray stores callbacks by pickle. Nobody reads that one, so it is empty.

    Args:
        setup: Of the sweep.
        observer: Whom to tell.
        halving: Says which trials that Tune stopped only wait, and learns from records; None if none does.
    """

    def __init__(self, setup: TrialSetup, observer: GuardedObserver, halving: Halving | None = None) -> None:
        self._setup = setup
        self._observer = observer
        self._halving = halving
        self.records = {record.number: record for record in setup.records.load_all()}
        for record in self.records.values():
            if halving is not None and record.number < setup.search.trials:
                halving.learn(record)

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()

    def ended(self) -> list[TrialRecord]:
        """Return the records of trials that are over, by number."""
        return [record for _, record in sorted(self.records.items()) if record.outcome is not None]

    def tell_again(self) -> None:
        """Tell the observer about all trials of earlier commands."""
        for record in self.records.values():
            self._observer.tell_again(record)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
        """Record a new trial; one that goes on keeps its record, also where Ray knows it by a new id."""
        number = trial.config["number"]
        if number in self.records:
            self._observer.resumed(self.records[number])
            return
        record = TrialRecord(
            trial_id=trial.trial_id,
            number=number,
            seed=trial_seed(self._setup.job.seed, number),
            values=trial.config["values"],
        )
        self._store(record)
        self._observer.started(record)

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,  # noqa: ANN401
        result: dict[str, Any],
        **info: Any,  # noqa: ANN401, ARG002
    ) -> None:
        """Record the epochs that are new."""
        old = self.records[trial.config["number"]]
        record = old.with_history(history_from_json(result[HISTORY]))
        if len(record.history) > len(old.history):
            self._store(record)
            self._observer.reported(record, after=len(old.history))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
        """Record the end of a trial that Tune stopped or that returned."""
        record = self.records[trial.config["number"]]
        failure = trial.last_result.get(FAILURE)
        if failure:
            self._end(record, "failed", failure)
        elif self._waits(record):
            self._observer.paused(record)
        else:
            self._end(record, *outcome_of(record.history, epochs=self._setup.search.epochs))
        self.settle()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
        """Record the end of a trial whose processes died more often than Tune starts them again."""
        self._end(self.records[trial.config["number"]], "failed", last_failure(Path(trial.error_file)))
        self.settle()

    def settle(self) -> None:
        """Record the end of trials that wait for a place and can have none any more."""
        if self._halving is None:
            return
        for number in sorted(self._halving.hopeless()):
            if self.records[number].outcome is None:
                self._end(self.records[number], "stopped", None)

    def _waits(self, record: TrialRecord) -> bool:
        return self._halving is not None and self._halving.may_go_on(record.number)

    def _end(self, record: TrialRecord, outcome: Outcome, cause: str | None) -> None:
        if self._halving is not None:
            self._halving.end(record.number, has_failed=outcome == "failed")
        if record.outcome is None:
            run = self._setup.runs / run_name(record.trial_id)
            if self._setup.search.winner == "continue" and outcome != "failed" and self._is_best(record):
                keep_best(run, record.history, self._setup.winner)
            size = run.num_bytes()
            record = record.ended(outcome, cause, deleted_bytes=size)
            self._store(record)
            self._observer.ended(record)
        self._delete_checkpoints(record.trial_id)

    def _is_best(self, record: TrialRecord) -> bool:
        """Return whether a trial that ends is the winner so far; of equals that is the first by number."""
        rivals = [
            other
            for other in (*self.ended(), record)
            if other.number < self._setup.search.trials and other.outcome != "failed"
        ]
        best = max(rivals, key=lambda one: (score_so_far(one.history), -one.number), default=None)
        return best is record

    def _store(self, record: TrialRecord) -> None:
        self.records[record.number] = record
        self._setup.records.save(record)

    def _delete_checkpoints(self, trial_id: str) -> None:
        """Delete a trial's run: only its record stays; workers that are being stopped may still write."""
        (self._setup.runs / run_name(trial_id)).delete()


def keep_best(run: StoragePath, history: History, folder: StoragePath) -> None:
    """Copy the best whole checkpoint of a trial's run to a folder, in place of what is there."""
    scores = {checkpoint_name(report.epoch): report.metrics[SCORE] for report in history}
    folders = [(child, child.name.partition(".")[0]) for child in run.children()]
    rated = [(child, scores[name]) for child, name in folders if name in scores]
    with at_hand(best_checkpoint(rated, order="max")) as best:
        folder.delete()
        folder.copy_from(best)


def last_failure(file: Path) -> str:
    """Return in one line the latest failure that Ray Tune has written to a trial's file on this machine."""
    _, _, failure = file.read_text().rpartition("Failure # ")
    _, *lines = [line.strip() for line in failure.splitlines() if line.strip()]
    # What a process raised comes as a traceback, whose last line says it; of one that died, the first does.
    return lines[-1] if "ray::" in lines[0] else lines[0]
