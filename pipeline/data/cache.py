"""The cache folder of a machine: what one process writes there, all processes of the machine read.

Everything in it can be made again, so it may be deleted whenever no job runs.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def cache_folder(kind: str) -> Path:
    """Return the part of `$SKIPLINE_CACHE_DIR` (else `~/.cache/skipline`) for one kind of file; not made."""
    return Path(os.environ.get("SKIPLINE_CACHE_DIR") or Path.home() / ".cache" / "skipline") / kind


def write_once(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file unless it is there; other processes of the machine wait for it instead of writing it too.

    Args:
        target: Appears whole or not at all; its folder is made.
        write: Puts the content into an open file.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with node_lock(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            _write_atomically(target, write)


@contextmanager
def node_lock(path: Path) -> Iterator[None]:
    """Hold a lock that one process of the machine has at a time; waits for it.

    Args:
        path: The lock's file; it stays, because a lock whose file is removed no longer keeps others out.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_atomically(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write beside the target, then take its name."""
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        try:
            write(part)
            part.flush()
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
