"""What one trial does: a Ray Train run whose epochs Ray Tune sees. Runs in a Tune trial process.

The process only waits for the run, so it asks for no CPU: the workers may use all there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.train import Checkpoint, ControllerError, TrainingFailedError, WorkerGroupError
from ray.tune.integration.ray_train import TuneReportCallback

from pipeline.config import Job
from pipeline.networks.cost import BlockLatencies
from pipeline.search_config import SearchConfig
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import read_stored_history
from pipeline.training.divergence import Divergence
from pipeline.training.epochs import SCORE, History, ends_epoch
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import NOTHING_GIVEN, plan_training
from pipeline.training.trainer import decisive, fit, read_epochs

from .record import RecordStore, TrialRecord, history_to_json
from .score import FAILED_SCORE, score_so_far
from .trial_job import trial_job

EPOCH, HISTORY, FAILURE = "epoch", "history", "failure"
"""Keys of a Tune result beside `score`: how many epochs, all of them as JSON, and why the training broke."""

NO_START = "WorkerGroupStartupFailedError"
"""Ray's class of a failure of which it forgets the cause; it has no public name."""

WINNER = "winner"
"""Folder of a sweep."""

TRIAL_RESOURCES = {"CPU": 0, "memory": 2**20}
"""What the waiting process reserves. Ray refuses an empty request, and a fraction of a CPU would not fit
beside workers that use all CPUs; every node has memory."""


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a sweep share.

    Attributes:
        job: The job whose search this is.
        search: Its search section.
        data: File of the data plan that trials train on.
        folder: Of the sweep; see `driver`.
        weights: Files for a job that is pretrained or has a teacher.
        latencies: By backbone, where the search needs them.
    """

    job: Job
    search: SearchConfig
    data: StoragePath
    folder: StoragePath
    weights: GivenWeights = NOTHING_GIVEN
    latencies: Mapping[str, BlockLatencies] = field(default_factory=dict)

    @property
    def runs(self) -> StoragePath:
        """Where the Ray Train runs of trials are stored."""
        return self.folder / "trials"

    @property
    def winner(self) -> StoragePath:
        """The checkpoint of the best trial so far, where the training shall go on from it."""
        return self.folder / WINNER

    @property
    def records(self) -> RecordStore:
        """The records of trials."""
        return RecordStore(self.folder / "records")


def run_name(trial_id: str) -> str:
    """Return the name of a trial's Ray Train run: the same name goes on from its latest checkpoint."""
    return f"trial-{trial_id}"


def run_trial(config: Mapping[str, Any], *, setup: TrialSetup) -> None:
    """Train one design, or go on with it.

    Epochs of an earlier command are reported first, so that the scheduler decides about them as it would
    have done.

    Args:
        config: Holds the `number` of the trial, whose record the driver has written.
        setup: What all trials share.
    """
    record = setup.records.load(config["number"])
    for epoch in range(1, len(record.history) + 1):
        tune.report(tune_result(record.history[:epoch]))
    try:
        history, divergence = train(record, setup)
    except TrainingFailedError as error:
        # Ray Train has tried again already. Reported, not raised, or Tune would start the same
        # failure anew.
        tune.report(tune_result(record.history, failure=cause_of(error)))
    else:
        # Said once more: a kill may hit between the last checkpoint and its report, and a run that goes
        # on from its last checkpoint has no epoch left to report.
        tune.report(tune_result(history, failure=None if divergence is None else str(divergence)))


def train(record: TrialRecord, setup: TrialSetup) -> tuple[History, Divergence | None]:
    """Run the training of a design, from its latest checkpoint where there is one.

    Returns:
        All epochs, and why there are not more if the training diverged.
    """
    job = trial_job(setup.job, setup.search, record.values, seed=record.seed)
    plan = plan_training(
        job, setup.data, weights=setup.weights, latencies=setup.latencies, validates_all_profiles=True
    )
    result = fit(
        plan, name=run_name(record.trial_id), storage=setup.runs, callbacks=[ReportHistoryCallback()]
    )
    return read_epochs(result), result.return_value


def tune_result(history: History, *, failure: str | None = None) -> dict[str, Any]:
    """Return what Ray Tune is told after an epoch, the same whatever was told before.

    The whole history travels with every report, so none is missed when a kill hits between a
    checkpoint and its report. Text, because Tune's loggers take a list for a histogram.
    """
    return {
        EPOCH: len(history),
        SCORE: FAILED_SCORE if failure else score_so_far(history),
        HISTORY: history_to_json(history),
        FAILURE: failure,
    }


class ReportHistoryCallback(TuneReportCallback):  # type: ignore[misc]
    """Reports the best score so far, which is what ASHA and Optuna must see, and all epochs up to it."""

    def after_report(
        self,
        run_context: Any,  # noqa: ANN401
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        """Turn a report of the workers into one to Tune; called in the controller of the run."""
        if checkpoint is None or not ends_epoch(metrics[0]):
            return
        history = read_stored_history(StoragePath(checkpoint.filesystem, checkpoint.path))
        super().after_report(run_context, [tune_result(history)], None)


def cause_of(error: BaseException) -> str:
    """Return in one line what broke a training: a worker's own error where there is one."""
    match error:
        case WorkerGroupError(worker_failures=failures) if failures:
            error = decisive(failures)
        case ControllerError():
            error = error.controller_failure
    error = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hint = (
        "" if type(error).__name__ != NO_START else " Its process died; often memory has run out on its node."
    )
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}{hint}"
