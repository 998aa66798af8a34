"""One object to one file, through throttling and broken connections."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError

from .object_store import BrokenConnection, StoredObject

MAX_FRUITLESS_ATTEMPTS = 5
"""A transfer is taken up again until so many tries in a row have brought no byte."""

_CHUNK_BYTES = 1 << 20
_LONGEST_PAUSE_S = 10.0


@dataclass
class Tally:
    """What the transfers of one staging have done; counted by many threads."""

    num_files: int = 0
    num_bytes: int = 0
    num_repeated_requests: int = 0
    num_cut_transfers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, files: int = 0, transferred: int = 0, repeated: int = 0, cut: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            self.num_files += files
            self.num_bytes += transferred
            self.num_repeated_requests += repeated
            self.num_cut_transfers += cut


def download(client: Any, bucket: str, item: StoredObject, target: Path, tally: Tally) -> None:  # noqa: ANN401
    """Copy an object to a file, which appears whole or not at all.

    What an earlier try or process has left beside the target is gone on with.

    Args:
        client: From `make_client`.
        bucket: Where the object is.
        item: The object; one that has changed since it was listed is refused.
        target: The file; its folder exists.
        tally: Counts the bytes and the failures.

    Raises:
        StoreError: If the store refuses the object, or it brings nothing more in many tries.
    """
    part = target.with_name(f"{target.name}.part")
    fruitless = 0
    while (have := _size(part)) != item.size_bytes:
        try:
            _transfer(client, bucket, item, part, have if 0 < have < item.size_bytes else 0, tally)
        except BrokenConnection:
            tally.add(cut=1)
            fruitless = 0 if _size(part) > have else fruitless + 1
            if fruitless == MAX_FRUITLESS_ATTEMPTS:
                raise
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.1 * 2**fruitless)))
    part.replace(target)
    tally.add(files=1)


def _size(path: Path) -> int:
    """Return the bytes of a file, -1 where there is none."""
    return path.stat().st_size if path.exists() else -1


def _transfer(
    client: Any,  # noqa: ANN401
    bucket: str,
    item: StoredObject,
    part: Path,
    start: int,
    tally: Tally,
) -> None:
    """Bring what the object has from byte `start` on to the part, which has the bytes before it."""
    wanted = {"Range": f"bytes={start}-"} if start else {}
    try:
        answer = client.get_object(Bucket=bucket, Key=item.key, IfMatch=item.etag, **wanted)
    except ClientError as err:
        tally.add(repeated=err.response["ResponseMetadata"].get("RetryAttempts", 0))
        raise
    tally.add(repeated=answer["ResponseMetadata"].get("RetryAttempts", 0))
    is_rest = answer["ResponseMetadata"]["HTTPStatusCode"] == 206  # else the store has ignored the range
    with answer["Body"] as body, part.open("ab" if start and is_rest else "wb") as file:
        while chunk := body.read(_CHUNK_BYTES):
            file.write(chunk)
            tally.add(transferred=len(chunk))
        size = file.tell()
    if size != item.size_bytes:  # a store need not say how much it sends
        raise IncompleteReadError(actual_bytes=size, expected_bytes=item.size_bytes)
