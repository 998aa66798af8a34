"""The copy of an S3 location in the cache folder of a machine: made once, used by all its processes."""

import logging
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config import S3Config
from pipeline.data.cache import cache_folder, make_folder, node_lock
from pipeline.data.s3.check import empty_problem
from pipeline.data.s3.listing import (
    Manifest,
    choose,
    list_objects,
    listed_prefix,
)
from pipeline.errors import JobError, RequestError
from pipeline.storage.download import Tally, download
from pipeline.storage.object_store import (
    NUM_CONNECTIONS,
    S3Location,
    StoredObject,
    StoreError,
    explain_failure,
    make_client,
)

_OBJECTS_A_TASK = 16  # chosen: a task of small files takes about as long as handing it out is worth
_DONE = "complete"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Staged:
    """A copy of an S3 location on this machine.

    Args:
        path: What to open in its place.
        fingerprint: State of the objects; see `Manifest.fingerprint`.
    """

    path: Path
    fingerprint: str


def stage(text: str, s3: S3Config, fingerprint: str | None = None) -> Staged:
    """Return the copy of a location, made now unless this machine has it; others wait while one makes it.

    An interrupted copy is gone on with. A finished one of a known state is used without asking the store.

    Args:
        text: Such as `s3://bucket/prefix`.
        s3: How to reach the store.
        fingerprint: State that the objects must have; None takes them as they are.

    Raises:
        RequestError: If the location cannot be listed or holds no images.
        JobError: If the objects have changed, do not fit on the disk, or cannot be transferred.
    """
    try:
        location = S3Location.parse(text)
    except ValueError as err:
        raise RequestError(str(err)) from err
    if fingerprint is not None and (_folder(location, fingerprint) / _DONE).exists():
        return Staged(_local_path(location, fingerprint), fingerprint)
    client = make_client(s3)
    manifest = list_manifest(client, location, s3)
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise JobError(
            f"data must stay as it was checked, names, sizes or ETags of the objects in {str(location)!r} "
            "have changed since; restore them, or prepare the data again"
        )
    _copy(client, manifest, s3)
    return Staged(_local_path(location, manifest.fingerprint), manifest.fingerprint)


def list_manifest(client: Any, location: S3Location, s3: S3Config) -> Manifest:  # noqa: ANN401
    """Return what a location holds; raises RequestError if it cannot be listed or holds no images."""
    try:
        objects = list(list_objects(client, location))
    except StoreError as err:
        raise RequestError(explain_failure(err, location, s3)) from err
    if not (chosen := choose(location, objects)):
        raise RequestError(empty_problem(location, len(objects)))
    return Manifest(location, chosen)


def _copy(client: Any, manifest: Manifest, s3: S3Config) -> None:  # noqa: ANN401
    """Bring all objects to this machine, unless they are there; one process at a time."""
    folder = _folder(manifest.location, manifest.fingerprint)
    make_folder(folder)
    with node_lock(folder / "lock"):
        if (folder / _DONE).exists():
            return
        root = _root(manifest.location, manifest.fingerprint)
        missing = [item for item in manifest.objects if not _is_there(root / item.name, item)]
        _check_space(manifest.location, missing, folder)
        _download_all(client, manifest.location, s3, missing, root)
        (folder / _DONE).touch()


def _download_all(
    client: Any,  # noqa: ANN401
    location: S3Location,
    s3: S3Config,
    items: Sequence[StoredObject],
    root: Path,
) -> None:
    """Transfer objects over many connections; logs what had to be repeated once, at the end."""
    size_mib = sum(item.size_bytes for item in items) / 2**20
    _log.info("staging %d objects, %.1f MiB, from %s", len(items), size_mib, location)
    for parent in {(root / item.name).parent for item in items}:
        parent.mkdir(parents=True, exist_ok=True)
    tally, start_s = Tally(), time.monotonic()

    def fetch(task: Sequence[StoredObject]) -> None:
        for item in task:
            download(client, location.bucket, item, root / item.name, tally)

    tasks = [items[start : start + _OBJECTS_A_TASK] for start in range(0, len(items), _OBJECTS_A_TASK)]
    pool = ThreadPoolExecutor(NUM_CONNECTIONS)
    try:
        for _ in pool.map(fetch, tasks):
            pass
    except StoreError as err:
        raise JobError(f"{explain_failure(err, location, s3)}; what has arrived is kept") from err
    finally:
        pool.shutdown(cancel_futures=True)
        _log_summary(tally, location, time.monotonic() - start_s)


def _log_summary(tally: Tally, location: S3Location, duration_s: float) -> None:
    """Log the transfers, as a warning where the store or the network has failed in between."""
    level = logging.WARNING if tally.num_repeated_requests or tally.num_cut_transfers else logging.INFO
    _log.log(
        level,
        "staged %d objects, %.1f MiB, from %s in %.1f s; %d requests were repeated, %d transfers were cut "
        "and taken up again",
        *(tally.num_files, tally.num_bytes / 2**20, location, duration_s),
        *(tally.num_repeated_requests, tally.num_cut_transfers),
    )


def _is_there(path: Path, item: StoredObject) -> bool:
    """Return whether an earlier staging of the same objects has left this one whole."""
    return path.exists() and path.stat().st_size == item.size_bytes


def _check_space(location: S3Location, items: Sequence[StoredObject], folder: Path) -> None:
    """Raise JobError if the disk has no room for the objects."""
    needed, free = sum(item.size_bytes for item in items), shutil.disk_usage(folder).free
    if needed > free:
        raise JobError(
            f"the cache folder must have room for the data, {str(location)!r} needs {needed / 2**30:.1f} GiB "
            f"and {str(folder.parent)!r} has {free / 2**30:.1f} GiB; set SKIPLINE_CACHE_DIR to a larger disk"
        )


def _folder(location: S3Location, fingerprint: str) -> Path:
    """Return the folder of one location in one state."""
    state = sha256(f"{location}\0{fingerprint}".encode()).hexdigest()[:32]
    return cache_folder("s3") / state


def _root(location: S3Location, fingerprint: str) -> Path:
    """Return where the listed prefix of a location lies; named as in the store, for messages."""
    return _folder(location, fingerprint) / location.bucket / listed_prefix(location)


def _local_path(location: S3Location, fingerprint: str) -> Path:
    """Return what stands for the location on this machine."""
    return _folder(location, fingerprint) / location.bucket / PurePosixPath(location.path)
