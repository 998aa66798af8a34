"""The Ray Train side of a training run: resources, storage, retries, result.

A run is named; the same name in the same storage goes on from its latest checkpoint, whatever ended it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchTrainer

from pipeline.errors import JobError
from pipeline.recipe import TrainingConfig
from pipeline.storage import StoragePath

from .best import best_checkpoint
from .checkpoint import History, read_stored_history
from .divergence import Divergence
from .plan import TrainingPlan
from .progress import EpochCallback, Progress, open_board, watching
from .snapshot import SnapshotCallback, mend_snapshot
from .worker import train_loop

MAX_WORKER_FAILURES = 2
"""Restarts from the latest checkpoint after a worker died; chosen."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        checkpoint: Folder of the best checkpoint.
        history: All epochs of the run.
    """

    checkpoint: StoragePath
    history: History


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
    run = storage / name
    mend_snapshot(run)
    return TorchTrainer(
        train_loop,
        train_loop_config={"plan": plan, "board": board, "run": run},
        scaling_config=ScalingConfig(
            num_workers=plan.recipe.workers,
            use_gpu=plan.recipe.use_gpu,
            resources_per_worker=resources_per_worker(plan.recipe),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            callbacks=[SnapshotCallback(run), *callbacks],
            checkpoint_config=CheckpointConfig(
                num_to_keep=plan.recipe.keep_checkpoints,
                checkpoint_score_attribute=plan.recipe.best_by,
                checkpoint_score_order=plan.recipe.best_is,
            ),
            failure_config=FailureConfig(max_failures=MAX_WORKER_FAILURES, controller_failure_limit=3),
        ),
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
            trainer = build_trainer(
                plan, name=name, storage=storage, board=board, callbacks=[EpochCallback(board)]
            )
            result = trainer.fit()
    except (TrainingFailedError, RayActorError) as error:
        raise JobError(
            f"training {name} failed and its {MAX_WORKER_FAILURES} restarts were used up: "
            f"{root_cause(error)}; completed epochs are kept, the same command goes on from there"
        ) from error
    divergence: Divergence | None = result.return_value
    if divergence is not None:
        raise JobError(
            f"{divergence}; lower training.lr or lengthen training.warmup_epochs, under another job name"
        )
    return read_result(result, plan.recipe)


def root_cause(error: Exception) -> str:
    """Return in one line what the first failed worker said, or the error itself."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    text = str(next(iter(failures.values()))).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def read_result(result: Result, recipe: TrainingConfig) -> TrainingResult:
    """Return the best checkpoint and the whole history of a run that came to its end."""
    rated = [
        (StoragePath(checkpoint.filesystem, checkpoint.path), metrics[recipe.best_by])
        for checkpoint, metrics in result.best_checkpoints
    ]
    return TrainingResult(best_checkpoint(rated, order=recipe.best_is), read_epochs(result))


def read_epochs(result: Result) -> History:
    """Return the epochs of a run however it ended, without the one in which it diverged."""
    latest = result.checkpoint
    return () if latest is None else read_stored_history(StoragePath(latest.filesystem, latest.path))
