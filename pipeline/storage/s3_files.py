"""An object store as one of pyarrow's file systems, which is what Ray keeps runs and checkpoints on.

pyarrow brings one itself, which does not do (measured, pyarrow 25): it fails on a small object as soon as
one request for it is refused (`Failed to flush response stream`), forgets in a pickle how often requests are
to be repeated, and is silent about it. Here boto3 transfers everything, as it does for images: refused
requests are repeated, broken downloads go on from the last byte, large files are uploaded in parts with
checksums.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType

from pipeline.config import S3Config
from pipeline.errors import JobError

from .download import Tally, download
from .object_store import (
    MAX_ATTEMPTS,
    NUM_CONNECTIONS,
    SCHEME,
    WRITE,
    S3Location,
    StoredObject,
    StoreError,
    explain_failure,
    make_client,
)
from .patience import persist

T = TypeVar("T")

_KEYS_A_REQUEST = 1000
"""The most that S3 deletes at once. Source: its API reference, DeleteObjects."""

_PART_BYTES = 16 << 20  # chosen: 10,000 parts, the most there can be, are 160 GiB

_log = logging.getLogger(__name__)


class StorageError(JobError, OSError):
    """What an object store refuses, or is away too long for: to pyarrow and Ray an error of files."""


class Repeats:
    """Counts requests that had to be repeated; tells the log about the 1st, the 10th, the 100th and so on.

    Args:
        store: Name of the store in messages.

    Attributes:
        count: Of all so far.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self.count = 0
        self._lock = threading.Lock()

    def add(self, number: int = 1) -> None:
        """Count so many more."""
        with self._lock:
            before, self.count = self.count, self.count + number
        if number and (not before or len(str(self.count)) > len(str(before))):
            _log.warning(
                "%s has refused or broken off requests, %d so far; each is made again, up to %d times",
                *(self._store, self.count, MAX_ATTEMPTS),
            )

    def listen(
        self,
        response: tuple[Any, Any] | None = None,
        caught_exception: Exception | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Count a failed try; botocore calls this after every one, and goes by what others return."""
        status = 200 if response is None else response[0].status_code
        if caught_exception is not None or status == 429 or status >= 500:
            self.add()


@dataclass(frozen=True)
class Store:
    """What a process needs of one object store.

    Attributes:
        client: For all threads.
        repeats: Counts its failures.
    """

    client: Any
    repeats: Repeats


def open_store(s3: S3Config) -> Store:
    """Return this process's connection to a store; made once."""
    return _open_store(s3, os.getpid())  # a client must not be taken along to a forked process


@cache
def _open_store(s3: S3Config, _pid: int) -> Store:
    client = make_client(s3)
    repeats = Repeats(s3.endpoint_url or "the S3 service")
    client.meta.events.register("needs-retry.s3", repeats.listen)
    return Store(client, repeats)


@dataclass(frozen=True)
class S3Files(FileSystemHandler):  # type: ignore[misc]
    """Objects as files, and what their keys have before a `/` as folders.

    Paths are BUCKET/KEY. A folder that is made is an empty object whose key ends in `/`, so it is there
    without files. A file is there whole or not at all. Errors of the store are OSErrors that say what to do.

    Args:
        s3: How to reach the store; travels by pickle, and holds no credentials.
    """

    s3: S3Config

    def get_type_name(self) -> str:
        """Return what pyarrow prints."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """Return a path without outer slashes."""
        return path.strip("/")

    def get_file_info(self, paths: Sequence[str]) -> list[FileInfo]:
        """Return what is at each path."""
        return [self._info(path.strip("/")) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """Return what is in a folder, and below it where that is asked for."""
        base = selector.base_dir.strip("/")
        place = S3Location.parse(f"{SCHEME}{base}")
        prefix = f"{place.path}/" if place.path else ""
        found: dict[str, FileInfo] = {}
        is_there = False
        for item in self._list(place.bucket, prefix):
            is_there = True
            path = PurePosixPath(place.bucket, item.key)
            folders = [
                folder for folder in path.parents if folder.is_relative_to(base) and str(folder) != base
            ]
            if item.key.endswith("/"):
                folders += [path] if str(path) != base else []
            elif selector.recursive or not folders:
                found[str(path)] = _file(str(path), item.size_bytes)
            for folder in folders:
                if selector.recursive or str(folder.parent) == base:
                    found.setdefault(str(folder), FileInfo(str(folder), FileType.Directory))
        if not is_there and not selector.allow_not_found:
            raise FileNotFoundError(f"there is no folder {SCHEME}{base}")
        return list(found.values())

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: ARG002  pyarrow's signature
        """Make a folder; those above it need no making."""
        place = S3Location.parse(f"{SCHEME}{path.strip('/')}")
        self._ask(path, lambda: self._client.put_object(Bucket=place.bucket, Key=f"{place.path}/", Body=b""))

    def delete_dir(self, path: str) -> None:
        """Delete a folder with all that is in it; nothing happens where there is none."""
        place = S3Location.parse(f"{SCHEME}{path.strip('/')}")
        keys = [{"Key": item.key} for item in self._list(place.bucket, f"{place.path}/")]
        for start in range(0, len(keys), _KEYS_A_REQUEST):
            part = {"Objects": keys[start : start + _KEYS_A_REQUEST], "Quiet": True}
            self._ask(path, partial(self._delete, place.bucket, part))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: ARG002
        """Delete all that is in a folder, which stays."""
        self.delete_dir(path)
        self.create_dir(path, recursive=True)

    def delete_root_dir_contents(self) -> None:
        """Refuse to delete all buckets."""
        raise PermissionError("all buckets of a store are never deleted")

    def delete_file(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""
        place = S3Location.parse(f"{SCHEME}{path}")
        self._ask(path, lambda: self._client.delete_object(Bucket=place.bucket, Key=place.path))

    def copy_file(self, src: str, dest: str) -> None:
        """Copy a file within the store."""
        source, target = S3Location.parse(f"{SCHEME}{src}"), S3Location.parse(f"{SCHEME}{dest}")
        original = {"Bucket": source.bucket, "Key": source.path}
        self._ask(src, lambda: self._client.copy(original, target.bucket, target.path))

    def move(self, src: str, dest: str) -> None:
        """Move a file."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file for reading: all of it is fetched first."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reading anywhere in it; raises FileNotFoundError if there is none."""
        with tempfile.TemporaryDirectory(prefix="skipline-") as folder:
            target = Path(folder) / "file"
            self._ask(path, lambda: self._fetch(path, target))
            return pa.OSFile(str(target))  # open, it outlives its folder

    def open_output_stream(self, path: str, metadata: Mapping[str, str] | None) -> pa.NativeFile:  # noqa: ARG002
        """Open a file for writing; it appears when it is closed."""
        return pa.PythonFile(_Upload(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Mapping[str, str] | None) -> pa.NativeFile:  # noqa: ARG002
        """Refuse to append, which no object store can."""
        raise PermissionError(f"nothing can be appended to an object, {SCHEME}{path} is one; write it anew")

    def upload(self, file: Path, path: str) -> None:
        """Put a file of this machine at a path."""
        place = S3Location.parse(f"{SCHEME}{path}")
        config = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=NUM_CONNECTIONS
        )

        def send() -> None:
            with file.open("rb") as content:  # anew for every try: boto3 closes it
                self._client.upload_fileobj(content, place.bucket, place.path, Config=config)

        self._ask(path, send)

    @property
    def _store(self) -> Store:
        return open_store(self.s3)

    @property
    def _client(self) -> Any:  # noqa: ANN401
        return self._store.client

    def _info(self, path: str) -> FileInfo:
        place = S3Location.parse(f"{SCHEME}{path}")
        if place.path:
            try:
                head = self._ask(path, lambda: self._client.head_object(Bucket=place.bucket, Key=place.path))
            except FileNotFoundError:
                pass
            else:
                return _file(path, head["ContentLength"])
        prefix = f"{place.path}/" if place.path else ""
        answer = self._ask(
            path, lambda: self._client.list_objects_v2(Bucket=place.bucket, Prefix=prefix, MaxKeys=1)
        )
        is_folder = answer["KeyCount"] or not place.path
        return FileInfo(path, FileType.Directory if is_folder else FileType.NotFound)

    def _list(self, bucket: str, prefix: str) -> list[StoredObject]:
        def ask() -> list[Any]:
            pages: Iterable[Any] = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            )
            return [entry for page in pages for entry in page.get("Contents", ())]

        return [
            StoredObject(entry["Key"].removeprefix(prefix), entry["Key"], entry["Size"], entry["ETag"])
            for entry in self._ask(f"{bucket}/{prefix}", ask)
        ]

    def _fetch(self, path: str, target: Path) -> None:
        place, tally = S3Location.parse(f"{SCHEME}{path}"), Tally()
        head = self._client.head_object(Bucket=place.bucket, Key=place.path)
        item = StoredObject(place.path, place.path, head["ContentLength"], head["ETag"])
        try:
            download(self._client, place.bucket, item, target, tally)
        finally:
            self._store.repeats.add(tally.num_cut_transfers)

    def _delete(self, bucket: str, part: Mapping[str, Any]) -> None:
        answer = self._client.delete_objects(Bucket=bucket, Delete=part)
        for problem in answer.get("Errors", ()):
            raise ClientError({"Error": problem}, "DeleteObjects")

    def _ask(self, path: str, call: Callable[[], T]) -> T:
        """Return what a call of boto3 returns, made again while the store is away; its errors as ours.

        Raises:
            FileNotFoundError: If there is nothing at the path.
            StorageError: If the store refuses the call, or was away for too long.
        """
        try:
            return persist(call, self.s3.endpoint_url or "the S3 service")
        except StoreError as err:
            if isinstance(err, ClientError) and _is_missing(err):
                raise FileNotFoundError(f"there is no file {SCHEME}{path}") from err
            raise StorageError(explain_failure(err, f"{SCHEME}{path}", self.s3, WRITE)) from err


class _Upload:
    """A file that is being written: kept on this machine, uploaded when it is closed.

    It is not one of `io`, whose files close themselves when they are forgotten, which would upload what a
    failed writer has left.
    """

    def __init__(self, files: S3Files, path: str) -> None:
        self._files = files
        self._path = path
        self._buffer = tempfile.NamedTemporaryFile(prefix="skipline-")  # noqa: SIM115  closed by `close`
        self.closed = False

    def __del__(self) -> None:
        self._buffer.close()

    def write(self, data: bytes) -> int:
        """Write bytes at the end; returns how many."""
        return self._buffer.write(data)

    def tell(self) -> int:
        """Return how many bytes there are."""
        return self._buffer.tell()

    def flush(self) -> None:
        """Do nothing: a file appears when it is closed."""

    def close(self) -> None:
        """Upload the file."""
        if self.closed:
            return
        self.closed = True
        with self._buffer:
            self._buffer.flush()
            self._files.upload(Path(self._buffer.name), self._path)


def _file(path: str, size_bytes: int) -> FileInfo:
    return FileInfo(path, FileType.File, size=size_bytes)


def _is_missing(error: ClientError) -> bool:
    return error.response["Error"].get("Code") in ("404", "NoSuchKey", "NotFound")
