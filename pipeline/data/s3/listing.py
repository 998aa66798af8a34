"""What an S3 location holds, and which of it belongs to the data set; decided from names alone."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from pipeline.data.file_kinds import CLASS_FILE, IMAGE_SUFFIXES, SAVED_SPLITS, SAVED_STATE, SHARD_SUFFIXES
from pipeline.storage.object_store import S3Location, StoredObject


@dataclass(frozen=True)
class Manifest:
    """The objects that make a data set, sorted by name.

    Args:
        location: Where they are.
        objects: One or more objects.
    """

    location: S3Location
    objects: tuple[StoredObject, ...]

    @property
    def size_bytes(self) -> int:
        """Of all objects together."""
        return sum(item.size_bytes for item in self.objects)

    @property
    def fingerprint(self) -> str:
        """Changes with names, sizes and ETags; the same on every machine."""
        digest = hashlib.sha256()
        for item in self.objects:
            digest.update(f"{item.name}\0{item.size_bytes}\0{item.etag}\0".encode())
        return f"{digest.hexdigest()[:16]}-s3"


def listed_prefix(location: S3Location) -> str:
    """Return the part of a location that is listed: all of a folder, the folder of an object or a pattern."""
    path = PurePosixPath(location.path)
    if location.is_pattern or path.suffix in SHARD_SUFFIXES:
        path = path.parent
    return "" if str(path) == "." else f"{path}/"


def list_objects(client: Any, location: S3Location) -> Iterator[StoredObject]:  # noqa: ANN401
    """Yield the objects below a location, page by page; one of boto3's errors may come at any page."""
    prefix = listed_prefix(location)
    is_flat = location.is_pattern or PurePosixPath(location.path).suffix in SHARD_SUFFIXES
    paginator = client.get_paginator("list_objects_v2")
    for page in paginator.paginate(
        Bucket=location.bucket, Prefix=prefix, **({"Delimiter": "/"} if is_flat else {})
    ):
        for entry in page.get("Contents", ()):
            name = entry["Key"].removeprefix(prefix)
            if _is_plain(name):
                yield StoredObject(name, entry["Key"], entry["Size"], entry["ETag"])


def choose(location: S3Location, objects: Sequence[StoredObject]) -> tuple[StoredObject, ...]:
    """Return the objects that make the data set of a location, sorted by name; the rest is left where it is.

    The rule is that of local folders: a data set saved to disk before shards before images in class folders.
    """
    last = PurePosixPath(location.path).name
    direct = [item for item in objects if "/" not in item.name]
    names = {item.name for item in direct}
    if location.is_pattern or PurePosixPath(last).suffix in SHARD_SUFFIXES:
        wanted = [item for item in direct if _is_shard(item.name) and fnmatchcase(item.name, last)]
        return _sorted(wanted, direct) if wanted else ()
    if SAVED_STATE in names:
        return _sorted(item for item in direct if item.name.endswith((".arrow", ".json")))
    if SAVED_SPLITS in names:
        return _sorted(item for item in objects if PurePosixPath(item.name).suffix == ".json")
    for suffix in SHARD_SUFFIXES:
        if shards := [item for item in direct if item.name.endswith(suffix)]:
            return _sorted(shards, direct)
    return _sorted(item for item in objects if PurePosixPath(item.name).suffix.lower() in IMAGE_SUFFIXES)


def _sorted(wanted: Iterable[StoredObject], beside: Sequence[StoredObject] = ()) -> tuple[StoredObject, ...]:
    """Return objects by name; with tar shards goes the file that names their classes."""
    chosen = set(wanted)
    if any(item.name.endswith(".tar") for item in chosen):
        chosen |= {item for item in beside if item.name == CLASS_FILE}
    return tuple(sorted(chosen))


def _is_shard(name: str) -> bool:
    return PurePosixPath(name).suffix in SHARD_SUFFIXES


def _is_plain(name: str) -> bool:
    """Return whether a name is that of a visible file that stays below the folder it is copied to."""
    return not any(part.startswith(".") or not part for part in name.split("/"))
