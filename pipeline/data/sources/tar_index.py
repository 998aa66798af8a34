"""Where the images of tar shards lie: one scan of the headers, kept in the cache folder.

Nothing is extracted and nothing in a shard is executed: names are only compared, images are read by offset.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import pyarrow as pa

from pipeline.data.cache import cache_folder, write_once
from pipeline.data.file_kinds import IMAGE_SUFFIXES
from pipeline.errors import RequestError

NO_IMAGE = -1
"""Stands in the column `offset` for a sample that has a label and no image."""

_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("name", pa.string()),
        ("offset", pa.int64()),
        ("num_bytes", pa.int64()),
        ("label", pa.string()),
    ]
)
_LABEL_LIMIT_BYTES = 1 << 20  # chosen: a .json with more is no description of one image
_NUM_THREADS = 8  # chosen: scanning waits for the disk, or for the server of a shared one


class TarSample(NamedTuple):
    """One sample of a shard: its image (or `NO_IMAGE`) and its label as text, None where there is none."""

    name: str
    offset: int
    num_bytes: int
    label: str | None


class _Part(NamedTuple):
    """One member of a sample."""

    name: str
    offset: int
    num_bytes: int


_Sample = dict[str, _Part]
"""Parts of a sample by suffix, such as `.jpg` and `.cls`."""


def load_index(files: Sequence[Path], fingerprint: str) -> pa.Table:
    """Return one row a sample: shard, name, offset and num_bytes of its image, and label as text or null.

    Args:
        files: The shards, in order.
        fingerprint: State of the shards; an index that was made for the same state is used again.

    Raises:
        RequestError: If a shard is no uncompressed tar file or holds what is neither file nor folder.
    """
    key = hashlib.sha256("\0".join([*map(str, files), fingerprint]).encode()).hexdigest()[:32]
    cached = cache_folder("tar-index") / f"{key}.arrow"
    write_once(cached, lambda target: _write_index(files, target))
    return pa.ipc.open_file(pa.memory_map(str(cached))).read_all()


def _write_index(files: Sequence[Path], target: IO[bytes]) -> None:
    """Scan all shards and write what was found, shard by shard."""
    problems: list[str] = []
    with ThreadPoolExecutor(_NUM_THREADS) as pool, pa.ipc.new_file(target, _SCHEMA) as writer:
        for shard, found in enumerate(pool.map(scan_shard, files)):
            if isinstance(found, str):
                problems.append(found)
            else:
                rows = [{"shard": shard, **sample._asdict()} for sample in found]
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
    if problems:
        raise RequestError(problems)


def scan_shard(file: Path) -> list[TarSample] | str:
    """Return the samples of one shard in the order of their first members, or what is wrong with it."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                if not member.isdir():
                    _add(member, samples)
    except (tarfile.TarError, OSError, ValueError) as err:
        return (
            f"a tar shard must be a readable, uncompressed tar file, {str(file)!r} is not ({err}); "
            "write it again"
        )
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return list(_rows(descriptor, samples))
    finally:
        os.close(descriptor)


def _add(member: tarfile.TarInfo, samples: dict[str, _Sample]) -> None:
    """Put a member with its sample; raises ValueError where the shard does not hold its bytes as they are."""
    if not member.isreg() or member.issparse():
        raise ValueError(f"{member.name!r} is a link, a device or a sparse file")
    path = PurePosixPath(member.name)
    stem, dot, suffix = path.name.partition(".")
    if stem and dot:  # a name that opens with a dot is hidden
        part = _Part(member.name, member.offset_data, member.size)
        samples.setdefault(str(path.parent / stem), {})[f".{suffix.lower()}"] = part


def _rows(descriptor: int, samples: dict[str, _Sample]) -> Iterator[TarSample]:
    """Yield one row a sample that has an image or a class."""
    for stem, sample in samples.items():
        images = [part for suffix, part in sample.items() if suffix in IMAGE_SUFFIXES]
        if not images and ".cls" not in sample:
            continue
        image = images[0] if len(images) == 1 else _Part(stem, NO_IMAGE, 0)
        yield TarSample(*image, _label(descriptor, sample))


def _label(descriptor: int, sample: _Sample) -> str | None:
    """Return what `.cls`, else the key label of `.json`, says; None where neither says anything."""
    if ".cls" in sample:
        return _text(descriptor, sample[".cls"]).strip() or None
    if ".json" not in sample:
        return None
    try:
        label = json.loads(_text(descriptor, sample[".json"]))["label"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(label) if isinstance(label, int | str) and not isinstance(label, bool) else None


def _text(descriptor: int, part: _Part) -> str:
    """Return a small member as text."""
    size = part.num_bytes if part.num_bytes <= _LABEL_LIMIT_BYTES else 0
    return os.pread(descriptor, size, part.offset).decode(errors="replace")
