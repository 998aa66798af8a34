"""Going on from a checkpoint: the newest sound one, the same on every rank."""

import logging
from collections.abc import Collection
from pathlib import Path

import torch
from torch import distributed

from .checkpoint import load_checkpoint
from .checkpoint_staging import clear_staging
from .epochs import Reached
from .manifest import CheckpointError, named
from .progress import tell
from .session import Session
from .uploading import Stored, registered, training_state

log = logging.getLogger(__name__)


def restore(session: Session) -> Reached:
    """Restore the newest sound checkpoint of this run; returns how far it is.

    One that is broken or foreign on any rank is refused on all of them and named to the user; then comes the
    one before it. Where none is sound, training starts over.
    """
    clear_staging(session)
    candidates = newest_first(registered())
    for number, stored in enumerate(candidates, start=1):
        reached, reason = try_to_restore(session, stored)
        if reached is not None:
            if session.rank == 0:
                tell(session.board, f"training goes on after {reached}, on {session.world_size} worker(s)")
            return reached
        if session.rank == 0:
            rest = "the one before it is used" if number < len(candidates) else "training starts over"
            tell(session.board, f"checkpoint refused, {rest}: {reason}")
    return Reached()


def newest_first(stored: Collection[Stored]) -> tuple[Stored, ...]:
    """Return checkpoints in the order in which they are tried; of one step, the one trained last first."""
    return tuple(sorted(stored, key=lambda one: (one.epoch, one.updates, one.timestamp_ms), reverse=True))


def try_to_restore(session: Session, stored: Stored) -> tuple[Reached | None, str]:
    """Return how far a checkpoint is that is sound on every rank, else None and why it is not used."""
    reached, reason = None, f"{stored.folder} cannot be read by another worker"
    # Ray's own way, by which the workers of a machine share one copy of a checkpoint in an object store.
    with stored.checkpoint.as_directory() as folder:
        try:
            with named(stored.folder):
                reached = load_checkpoint(Path(folder), training_state(session))
        except CheckpointError as error:
            reason = str(error)
            log.warning("rank %d: %s", session.rank, reason)
    return (reached, "") if is_so_everywhere(session, is_so=reached is not None) else (None, reason)


def is_so_everywhere(session: Session, *, is_so: bool) -> bool:
    """Return whether something is so on every rank; to be called on all of them."""
    flag = torch.tensor(float(is_so), device=session.device)
    if session.world_size > 1:
        distributed.all_reduce(flag, distributed.ReduceOp.MIN)
    return bool(flag)
