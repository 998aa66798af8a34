"""Keeping a folder for one command at a time, on a disk or in an object store.

On a disk the kernel holds the lock and frees it with its process. In an object store the lock is an object
that its holder writes anew every few seconds; one that has not been written for a minute, by the store's own
clock, is of a command that was killed. All writes are conditional, so of two commands one succeeds.
"""

import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline.config import S3Config
from pipeline.errors import JobError

from .object_store import SCHEME, WRITE, S3Location, StoreError, explain_failure, make_hasty_client
from .path import StoragePath
from .s3_files import S3Files, open_store

LOCK = ".lock"
RENEWAL_S = 10.0
LEASE_S = 60.0
"""A holder may miss five renewals in a row before another command takes the lock; chosen."""

_log = logging.getLogger(__name__)


class HeldError(Exception):
    """Another command holds the lock; the text says which."""


@contextmanager
def locked(folder: StoragePath, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder until the block ends.

    Args:
        folder: To hold; it is made where it is not there.
        say: Told why this waits, if it does: at most a minute, for a sign of another command's life; later
            that an object store is away, and that it is back.

    Raises:
        HeldError: If another command works in it.
        JobError: If an object store cannot be asked.
    """
    if folder.is_local:
        with _flocked(folder.local_path):
            yield
        return
    handler: S3Files = folder.filesystem.handler
    lease = Lease((folder / LOCK).path, handler.s3)
    lease.acquire(say)
    over = threading.Event()
    thread = threading.Thread(target=lease.renew_until, args=(over, say), name="job-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lease.release()


def _interrupt_until(over: threading.Event) -> None:
    """Interrupt the command, again where it goes on: Python drops what is raised in a destructor."""
    while True:
        # To the main thread itself, or its sleep would go on.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if over.wait(LEASE_S):
            return


@contextmanager
def _flocked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise HeldError("another command on this machine") from err
        yield


@dataclass(frozen=True)
class Holder:
    """Who holds a lock; `token` tells commands apart, the rest is for messages."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and does not any more."""
        return self.host == socket.gethostname() and not Path(f"/proc/{self.pid}").exists()


@dataclass(frozen=True)
class _Seen:
    """A lock as it was found: who holds it, its version, and seconds since it was written."""

    holder: Holder
    etag: str
    age_s: float


class Lease:
    """The lock in an object store.

    Args:
        path: BUCKET/KEY of the object.
        s3: How to reach the store.
    """

    def __init__(self, path: str, s3: S3Config) -> None:
        self._place = S3Location.parse(f"{SCHEME}{path}")
        self._s3 = s3
        self._client = open_store(s3).client
        self._holder = Holder()
        self._etag = ""
        self._num_writes = 0

    def acquire(self, say: Callable[[str], None]) -> None:
        """Take the lock; raises HeldError where its holder lives."""
        first: _Seen | None = None
        while not self._take(IfNoneMatch="*"):
            seen = self._look()
            if seen is None:  # given back in between
                continue
            if seen.holder == self._holder:  # the answer to a write that went well had been lost
                self._etag = seen.etag
                return
            if (seen.holder.is_gone or seen.age_s > LEASE_S) and self._take(IfMatch=seen.etag):
                return
            if first is None:
                first = seen
                say(
                    f"{seen.holder} worked on this job {seen.age_s:.0f} s ago; waiting for another sign of "
                    f"it, {max(0.0, LEASE_S - seen.age_s):.0f} s at most"
                )
            elif seen.etag != first.etag:
                raise HeldError(str(seen.holder))
            time.sleep(1)

    def renew_until(self, over: threading.Event, say: Callable[[str], None]) -> None:
        """Say that this command lives, every few seconds; interrupts it where another has taken the lock.

        It is the first to notice that the store is away.
        """
        self._client = make_hasty_client(self._s3)  # the next renewal is another try
        is_away = False
        while not over.wait(RENEWAL_S):
            try:
                is_renewed = self._take(IfMatch=self._etag)
                seen = None if is_renewed else self._look()
            except JobError as err:
                if not is_away:
                    say(f"{err}; the job goes on, and waits where it needs the store")
                is_away = True
                _log.warning("the lock of the job was not renewed: %s", err)
                continue
            if is_away:
                say("the object store answers again")
                is_away = False
            if is_renewed:
                continue
            if seen is not None and seen.holder == self._holder:
                self._etag = seen.etag
                continue
            if over.is_set():  # nothing is left that could be interrupted
                return
            _log.error(
                "the lock of the job was lost to %s, it was not renewed for %g s; this command ends",
                *(seen.holder if seen else "nobody", LEASE_S),
            )
            _interrupt_until(over)

    def release(self) -> None:
        """Give the lock back; one that cannot be given back runs out by itself."""
        with suppress(JobError):
            seen = self._look()
            if seen is not None and seen.holder == self._holder:
                with self._failures():
                    self._client.delete_object(Bucket=self._place.bucket, Key=self._place.path)

    def _take(self, **condition: str) -> bool:
        """Write the lock; returns whether the condition held."""
        # Numbered, because equal contents have equal ETags, and a renewal must show.
        self._num_writes += 1
        body = json.dumps({"holder": asdict(self._holder), "write": self._num_writes}).encode()
        with self._failures():
            try:
                answer = self._client.put_object(
                    Bucket=self._place.bucket, Key=self._place.path, Body=body, **condition
                )
            except ClientError as err:
                if err.response["ResponseMetadata"].get("HTTPStatusCode") in (404, 409, 412):
                    return False
                raise
        self._etag = answer["ETag"]
        return True

    def _look(self) -> _Seen | None:
        """Return the lock as it is, None where there is none."""
        with self._failures():
            try:
                answer: dict[str, Any] = self._client.get_object(
                    Bucket=self._place.bucket, Key=self._place.path
                )
                holder = Holder(**json.loads(answer["Body"].read())["holder"])
            except self._client.exceptions.NoSuchKey:
                return None
        now: datetime = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return _Seen(holder, answer["ETag"], (now - answer["LastModified"]).total_seconds())

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except StoreError as err:
            raise JobError(explain_failure(err, self._place, self._s3, WRITE)) from err
