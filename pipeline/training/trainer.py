"""The Ray Train side of a training run: resources, storage, retries, result.

A run is named; the same name in the same storage goes on from its latest checkpoint, whatever ended it. Ray
starts workers anew that died, or whose node did; what it does not start anew, the controller of a run, is
started here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer

from pipeline.errors import JobError
from pipeline.recipe import TrainingConfig
from pipeline.storage import StoragePath

from .best import best_checkpoint
from .checkpoint import read_stored_history
from .divergence import Divergence
from .epochs import History, ends_epoch
from .hopeless import HopelessCallback
from .plan import TrainingPlan
from .progress import EpochCallback, Progress, open_board, tell, watching
from .result import TrainingResult
from .snapshot import SnapshotCallback, mend_snapshot
from .uploading import NAME_PREFIX
from .worker import train_loop

MAX_FAILURES = 2
"""Restarts by Ray before this module looks whether the run came further, and restarts of its controller
without that; chosen. A run that comes further goes on for ever: its machines may come and go."""
MAX_START_FAILURES = 3
"""How often Ray starts workers in vain before it is said that they wait; chosen."""
NO_ROOM = "WorkerGroupStartupTimeoutError"
"""Ray's class of such a failure, which has no public name."""


def resources_per_worker(recipe: TrainingConfig) -> dict[str, float]:
    """Return what Ray has to reserve for one worker."""
    return {"CPU": recipe.cpus_per_worker, **({"GPU": 1} if recipe.use_gpu else {})}


def build_trainer(
    plan: TrainingPlan,
    *,
    name: str,
    storage: StoragePath,
    board: Any = None,  # noqa: ANN401
    callbacks: Sequence[UserCallback] = (),
) -> TorchTrainer:
    """Return the trainer of a run; its `fit` starts it or goes on with it.

    Args:
        plan: What to train.
        name: Of the run, unique in its storage.
        storage: Folder of runs.
        board: Handle of the `ProgressBoard` to report steps to, if any.
        callbacks: Ray Train callbacks, run in the controller.
    """
    run, recipe = storage / name, plan.recipe
    mend_snapshot(run)
    return TorchTrainer(
        train_loop,
        train_loop_config={"plan": plan, "board": board, "run": run},
        scaling_config=ScalingConfig(
            num_workers=(recipe.min_workers, recipe.workers) if recipe.min_workers else recipe.workers,
            use_gpu=recipe.use_gpu,
            resources_per_worker=resources_per_worker(recipe),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            callbacks=[SnapshotCallback(run), HopelessCallback(), *callbacks],
            checkpoint_config=CheckpointConfig(
                num_to_keep=recipe.keep_checkpoints,
                checkpoint_score_attribute=recipe.best_by,
                checkpoint_score_order=recipe.best_is,
            ),
            failure_config=FailureConfig(
                max_failures=MAX_FAILURES, controller_failure_limit=MAX_START_FAILURES
            ),
        ),
    )


def fit(
    plan: TrainingPlan,
    *,
    name: str,
    storage: StoragePath,
    board: Any = None,  # noqa: ANN401
    callbacks: Sequence[UserCallback] = (),
) -> Result:
    """Carry out a run as `build_trainer` describes it, through what befalls its processes and nodes.

    Raises:
        TrainingFailedError: If the workers failed by themselves, or died again and again at one checkpoint.
        RayActorError: If the controller did.
    """
    run, restarts, need = storage / name, 0, ""
    while True:
        before = newest_checkpoint(run)
        try:
            return build_trainer(plan, name=name, storage=storage, board=board, callbacks=callbacks).fit()
        except RayActorError as error:
            restarts = 0 if newest_checkpoint(run) != before else restarts + 1
            if restarts > MAX_FAILURES:
                raise
            tell(board, f"{name}: the process that leads it died, it goes on: {root_cause(error)}")
        except WorkerGroupError as error:
            if newest_checkpoint(run) == before or not has_deaths(error):
                raise
            tell(board, f"{name}: workers died again, it goes on: {root_cause(error)}")
        except ControllerError as error:
            if type(error.controller_failure).__name__ != NO_ROOM:
                raise
            told, need = need, describe_need(plan.recipe)
            if need != told:
                tell(board, f"{name} waits: {need}")


def newest_checkpoint(run: StoragePath) -> str:
    """Return the name of a run's newest checkpoint, by which it is seen to come further; empty if none."""
    folders = run.children() if run.exists() else []
    return max((folder.name for folder in folders if folder.name.startswith(NAME_PREFIX)), default="")


def has_deaths(error: WorkerGroupError) -> bool:
    """Return whether a process or node died; other workers fail then as well, because they miss it."""
    return any(isinstance(failure, RayActorError) for failure in error.worker_failures.values())


def describe_need(recipe: TrainingConfig) -> str:
    """Return in words why workers cannot start now."""
    there = ray.cluster_resources()
    size = f"{recipe.cpus_per_worker} CPU(s) and {int(recipe.use_gpu)} GPU(s)"
    return (
        f"{recipe.fewest_workers} worker(s) of {size} each need room, the cluster has "
        f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, of which others may hold some"
    )


def run_training(
    plan: TrainingPlan, *, name: str, storage: StoragePath, on_progress: Callable[[Progress], None]
) -> TrainingResult:
    """Train to the end, or go on where a former run of that name ended.

    Args:
        plan: What to train.
        name: Of the run, unique in its storage.
        storage: Folder of runs.
        on_progress: Told about steps and epochs, from a thread.

    Raises:
        JobError: If the workers failed too often or the loss became infinite or undefined.
    """
    board = open_board()
    try:
        with watching(board, on_progress):
            result = fit(plan, name=name, storage=storage, board=board, callbacks=[EpochCallback(board)])
    except (TrainingFailedError, RayActorError) as error:
        is_hopeless = isinstance(getattr(error, "controller_failure", None), JobError)
        tried = "" if is_hopeless else f" and its {MAX_FAILURES} restarts were used up"
        raise JobError(
            f"training {name} failed{tried}: {root_cause(error)}; completed epochs are kept, the same "
            "command goes on from there"
        ) from error
    divergence: Divergence | None = result.return_value
    if divergence is not None:
        raise JobError(
            f"{divergence}; lower training.lr or lengthen training.warmup_epochs, under another job name"
        )
    return read_result(result, plan.recipe)


def root_cause(error: Exception) -> str:
    """Return in one line what a failed worker said, see `decisive`, or the error itself."""
    text = str(decisive(getattr(error, "worker_failures", None) or {0: error})).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def decisive(failures: Mapping[int, Exception]) -> Exception:
    """Return the failure that explains the others: that of a process which died, else the first."""
    died = (failure for failure in failures.values() if isinstance(failure, RayActorError))
    return next(died, next(iter(failures.values())))


def read_result(result: Result, recipe: TrainingConfig) -> TrainingResult:
    """Return the best checkpoint and the whole history of a run that came to its end."""
    rated = [
        (StoragePath(checkpoint.filesystem, checkpoint.path), metrics[recipe.best_by])
        for checkpoint, metrics in result.best_checkpoints
        if ends_epoch(metrics)
    ]
    return TrainingResult(best_checkpoint(rated, order=recipe.best_is), read_epochs(result))


def read_epochs(result: Result) -> History:
    """Return the epochs of a run however it ended, without the one in which it diverged."""
    latest = result.checkpoint
    return () if latest is None else read_stored_history(StoragePath(latest.filesystem, latest.path))
