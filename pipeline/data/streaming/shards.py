"""The shards of a location: what there is, and bringing one of them within reach of this machine."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from pipeline.config import S3Config
from pipeline.data.cache import cache_folder, make_folder, write_once
from pipeline.data.file_kinds import CLASS_FILE, SHARD_SUFFIXES
from pipeline.data.s3.listing import Manifest
from pipeline.data.s3.staging import list_manifest
from pipeline.data.sources import resolve_location
from pipeline.data.sources.fingerprints import file_facts, fingerprint_of
from pipeline.data.sources.shard_files import find_shards
from pipeline.data.sources.tar import read_class_file
from pipeline.data.streaming.unpacking import unpack
from pipeline.errors import JobError
from pipeline.storage.download import Tally, download
from pipeline.storage.object_store import (
    S3Location,
    StoredObject,
    StoreError,
    explain_failure,
    is_s3,
    make_client,
)
from pipeline.storage.patience import persist

_log = logging.getLogger(__name__)


class Shards(ABC):
    """The shards of a data set in the order of their names.

    Unpacked shards lie in the cache folder, for all processes of the machine, until they are dropped.

    Args:
        location: Where the shards are.
        names: Name of every shard.
        size_bytes: Of all shards together, as they are stored.
        fingerprint: State of the shards.
    """

    def __init__(self, location: str, names: Sequence[str], size_bytes: int, fingerprint: str) -> None:
        self.location = location
        self.names = tuple(names)
        self.size_bytes = size_bytes
        self.fingerprint = fingerprint
        key = sha256(f"{location}\0{fingerprint}".encode()).hexdigest()[:32]
        self._folder = cache_folder("stream") / key

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self.names)

    def fetch(self, index: int) -> Path:
        """Return the unpacked shard; other processes of the machine wait while one makes it.

        Raises:
            JobError: If the shard cannot be read or transferred.
        """
        path = self._path(index)

        def write(file: IO[bytes]) -> None:
            with self._original(index) as original:
                unpack(original, file)

        write_once(path, write)
        return path

    def open(self, index: int) -> pa.Table:
        """Return the columns `label` and `bytes` of a shard, memory mapped; fetches it if it is not there."""
        while True:
            path = self.fetch(index)
            with suppress(FileNotFoundError):  # another worker of this machine has just dropped it
                return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def drop(self, index: int) -> None:
        """Remove an unpacked shard; processes that have it open keep it until they close it."""
        self._path(index).unlink(missing_ok=True)

    @abstractmethod
    def log_failures(self) -> None:
        """Log what had to be repeated since the last call, in one line; nothing where all went well."""

    @abstractmethod
    def class_file_names(self) -> tuple[str, ...] | None:
        """Return the class names of the file beside tar shards, None where there is none."""

    @abstractmethod
    def _original(self, index: int) -> AbstractContextManager[Path]:
        """Give a shard as it is stored, for the time of a block."""

    def _path(self, index: int) -> Path:
        """Return where an unpacked shard lies."""
        return self._folder / f"{index:06}.arrow"


class LocalShards(Shards):
    """Shards that this machine can read where they are.

    Args:
        location: Absolute.
        files: The shards.
    """

    def __init__(self, location: str, files: Sequence[Path]) -> None:
        facts = [file_facts(file, file.name) for file in files]
        super().__init__(
            location,
            [file.name for file in files],
            sum(fact.size_bytes for fact in facts),
            fingerprint_of(facts),
        )
        self._files = tuple(files)

    def class_file_names(self) -> tuple[str, ...] | None:
        """Return None: only Parquet files are streamed from a path."""
        return None

    def log_failures(self) -> None:
        """Do nothing: what a path fails to give is raised at once."""

    @contextmanager
    def _original(self, index: int) -> Iterator[Path]:
        yield self._files[index]


class StoredShards(Shards):
    """Shards in an object store.

    Args:
        manifest: What is there.
        s3: How to reach the store.
        client: That of this process; a process forked from it makes its own.
    """

    def __init__(self, manifest: Manifest, s3: S3Config, client: Any) -> None:  # noqa: ANN401
        self._manifest = manifest
        self._s3 = s3
        self._objects = [item for item in manifest.objects if item.name != CLASS_FILE]
        super().__init__(
            str(manifest.location),
            [item.name for item in self._objects],
            sum(item.size_bytes for item in self._objects),
            manifest.fingerprint,
        )
        self._tally = Tally()
        self._client = (os.getpid(), client)

    def class_file_names(self) -> tuple[str, ...] | None:
        """Return the class names of the file beside tar shards, None where there is none."""
        for item in self._manifest.objects:
            if item.name == CLASS_FILE:
                with self._downloaded(item) as file:
                    return read_class_file(file)
        return None

    @contextmanager
    def _original(self, index: int) -> Iterator[Path]:
        with self._downloaded(self._objects[index]) as file:
            yield file

    def log_failures(self) -> None:
        """Log what had to be repeated since the last call, in one line; nothing where all went well."""
        tally, self._tally = self._tally, Tally()
        if tally.num_repeated_requests or tally.num_cut_transfers:
            _log.warning(
                "streamed %d objects, %.1f MiB, from %s; %d requests were repeated, %d transfers were cut "
                "and taken up again",
                *(tally.num_files, tally.num_bytes / 2**20, self.location),
                *(tally.num_repeated_requests, tally.num_cut_transfers),
            )

    def _own_client(self) -> Any:  # noqa: ANN401
        """Return the client of this process; one from before a fork would share its connections."""
        if self._client[0] != os.getpid():
            self._client = (os.getpid(), make_client(self._s3))
            self._tally = Tally()  # a thread of the other process may have held its lock at the fork
        return self._client[1]

    @contextmanager
    def _downloaded(self, item: StoredObject) -> Iterator[Path]:
        """Give an object as a file."""
        target = self._folder / item.name
        make_folder(target.parent)
        try:
            client = self._own_client()
            persist(
                lambda: download(client, self._manifest.location.bucket, item, target, self._tally),
                self._s3.endpoint_url or "the S3 service",
            )
        except StoreError as err:
            raise JobError(explain_failure(err, f"{self.location}/{item.name}", self._s3)) from err
        try:
            yield target
        finally:
            target.unlink()


def find_sharded(location: str, s3: S3Config) -> Shards | None:
    """Return the shards of a location that can be streamed; None for anything else.

    Those are .parquet and .tar objects in a store, and .parquet files on a path. Images in tar files on a
    path and saved data sets are read where they are, whatever their size.

    Args:
        location: As for `open_source`.
        s3: How to reach an object store.

    Raises:
        RequestError: If an object store cannot be asked or holds no images.
    """
    if is_s3(location):
        client = make_client(s3)
        manifest = list_manifest(client, S3Location.parse(location), s3)
        is_sharded = any(item.name.endswith(SHARD_SUFFIXES) for item in manifest.objects[:2])
        return StoredShards(manifest, s3, client) if is_sharded else None
    path = Path(resolve_location(location))
    files = find_shards(path, ".parquet")
    return LocalShards(str(path), files) if files else None
