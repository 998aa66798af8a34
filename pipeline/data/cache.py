"""The cache folder of a machine: what one process writes there, all processes of the machine read.

Everything in it can be made again, so it may be deleted whenever no job runs.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import JobError


def cache_folder(kind: str) -> Path:
    """Return the part of `$SKIPLINE_CACHE_DIR` (else `~/.cache/skipline`) for one kind of file; not made."""
    return Path(os.environ.get("SKIPLINE_CACHE_DIR") or Path.home() / ".cache" / "skipline") / kind


def write_once(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file unless it is there; other processes of the machine wait for it instead of writing it too.

    Args:
        target: Appears whole or not at all; its folder is made.
        write: Puts the content into an open file.

    Raises:
        JobError: If the cache folder cannot be written or is full.
    """
    if target.exists():
        return
    make_folder(target.parent)
    with node_lock(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            _write_atomically(target, write)


def make_folder(path: Path) -> None:
    """Make a folder of the cache; raises JobError if it cannot be made or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as err:
        raise JobError(
            f"the cache folder must be one that can be written, {str(path)!r} is not ({err.strerror}); set "
            "SKIPLINE_CACHE_DIR to another"
        ) from err


@contextmanager
def node_lock(path: Path) -> Iterator[None]:
    """Hold a lock that one process of the machine has at a time; waits for it.

    Args:
        path: The lock's file; it stays, because a lock whose file is removed no longer keeps others out.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile has the file open as well.
            fcntl.flock(file, fcntl.LOCK_UN)


def _write_atomically(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write beside the target, then take its name; what a killed process has left there is written over."""
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
    except OSError as err:
        part.unlink(missing_ok=True)
        if err.errno != errno.ENOSPC:
            raise
        raise JobError(
            f"the cache folder must have room, the disk of {str(target.parent)!r} is full; free some or set "
            "SKIPLINE_CACHE_DIR to a larger one"
        ) from err
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(target)
