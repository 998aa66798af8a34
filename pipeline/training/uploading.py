"""Handing a checkpoint to Ray, which uploads it while the training goes on.

The state is written to a local folder before the next step changes it; Ray copies that folder to the run's
storage in the background, then registers it and deletes the local one. A worker that is killed meanwhile
loses that one at most: only registered checkpoints are ever restored.
"""

import math
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray import train

from pipeline.storage import StoragePath
from pipeline.storage.path import needing_room

from .checkpoint import TrainingState, save_checkpoint
from .checkpoint_staging import new_staging
from .epochs import UPDATES, Reached
from .session import Session

NAME_PREFIX = "checkpoint_"
"""Of every checkpoint's folder; what follows sorts by progress."""


@dataclass(frozen=True)
class Stored:
    """A registered checkpoint.

    Attributes:
        checkpoint: Ray's handle of it.
        epoch: Epochs that it holds.
        updates: Of the next one that it holds as well.
        timestamp_ms: Unix time of its making.
    """

    checkpoint: train.Checkpoint
    epoch: int
    updates: int
    timestamp_ms: int

    @property
    def folder(self) -> StoragePath:
        """Where it is."""
        return StoragePath(self.checkpoint.filesystem, self.checkpoint.path)


def report(session: Session, reached: Reached) -> None:
    """Hand metrics and a checkpoint to Ray; called equally often on every rank.

    At most one upload is under way: where storage is slower than training, this waits for the one before, so
    local folders never pile up.
    """
    checkpoint, name = None, None
    if session.rank == 0:
        own = checkpoint_name(len(reached.history), updates=reached.updates)
        name = free_name(own, {stored.folder.name for stored in registered()})
        with needing_room(Path(tempfile.gettempdir())):
            folder = new_staging(session)
            save_checkpoint(folder, training_state(session), reached)
        checkpoint = train.Checkpoint.from_directory(folder)
    metrics, recipe = reached.to_metrics(), session.plan.recipe
    if reached.updates:  # Ray ranks every checkpoint; this is the worst.
        metrics[recipe.best_by] = -math.inf if recipe.best_is == "max" else math.inf
    train.report(
        metrics,
        checkpoint=checkpoint,
        # Rank 0's name counts. Being the same whenever a step is trained again, it overwrites what a
        # killed worker had uploaded and not registered.
        checkpoint_dir_name=name,
        checkpoint_upload_mode=train.CheckpointUploadMode.ASYNC,
        checkpoint_upload_fn=partial(upload, session.run),
    )


def upload(run: StoragePath, checkpoint: train.Checkpoint, name: str) -> train.Checkpoint:
    """Copy a checkpoint of this machine to its run; returns the copy.

    In place of Ray's own way, which does not notice that the end of an upload failed.

    Args:
        run: Folder of the run.
        checkpoint: On this machine.
        name: Of its folder in the run.
    """
    target = run / name
    target.copy_from(Path(checkpoint.path))
    return train.Checkpoint(target.path, filesystem=target.filesystem)


def training_state(session: Session) -> TrainingState:
    """Return the parts of a session that a checkpoint holds."""
    updater = session.updater
    return TrainingState(
        session.network,
        session.optimizer,
        ema=None if updater.ema is None else updater.ema.module,
        scaler=updater.scaler if updater.scaler.is_enabled() else None,
    )


def registered() -> tuple[Stored, ...]:
    """Return the checkpoints that Ray keeps of this run, once those under way have arrived."""
    mode = train.CheckpointConsistencyMode.COMMITTED
    return tuple(
        Stored(
            one.checkpoint,
            epoch=int(one.metrics["epoch"]),
            updates=int(one.metrics.get(UPDATES, 0)),
            timestamp_ms=int(one.metrics["timestamp_ms"]),
        )
        for one in train.get_all_reported_checkpoints(consistency_mode=mode)
    )


def checkpoint_name(epoch: int, *, updates: int = 0) -> str:
    """Return the name of the folder of an epoch, or of an epoch and some updates; see also `free_name`."""
    return f"{NAME_PREFIX}{epoch:04d}" + (f"_{updates:06d}" if updates else "")


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a folder's name, numbered where a refused checkpoint bears it.

    Ray would take two checkpoints of one name for two, and delete the folder of both with the worse one.
    """
    names = [name, *(f"{name}.{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)
