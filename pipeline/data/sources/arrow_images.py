"""Encoded images of Parquet files, held as Arrow so that one row is found without decoding the others.

Small data stays in memory, shared with the loader processes that are forked from there. Large data is written
once as an uncompressed Arrow file to a cache folder and memory mapped, so all processes of a machine share
one copy of it.
"""

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.cache import cache_folder, write_once

IN_MEMORY_LIMIT_BYTES = 1 << 27
"""Parquet files that are larger together go through the cache folder; chosen: eight ranks then hold 1 GiB."""


class ArrowImages:
    """Encoded image files in row order.

    Args:
        chunks: Arrow arrays of binary values; their lengths add up to the number of rows.
    """

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self._chunks = [chunk for chunk in chunks if len(chunk)]
        self._ends = list(accumulate(len(chunk) for chunk in self._chunks))

    def encoded(self, row: int) -> memoryview | None:
        """Return the bytes of one image file, not copied; None where the row holds null."""
        index = bisect.bisect_right(self._ends, row)
        chunk = self._chunks[index]
        buffer = chunk[row - self._ends[index] + len(chunk)].as_buffer()
        return None if buffer is None else memoryview(buffer)


def load_images(files: Sequence[Path], fingerprint: str) -> ArrowImages:
    """Return the images of Parquet files, in memory or memory mapped after their total size.

    Args:
        files: Parquet files with a column `image.bytes`.
        fingerprint: Names the file in the cache folder; the cached copy is as old as this text.
    """
    if sum(file.stat().st_size for file in files) <= IN_MEMORY_LIMIT_BYTES:
        return ArrowImages([chunk for file in files for chunk in _image_chunks(file)])
    cached = cache_folder("images") / f"{_cache_key(files, fingerprint)}.arrow"
    write_once(cached, lambda file: _write_images(files, file))
    table = pa.ipc.open_file(pa.memory_map(str(cached))).read_all()
    return ArrowImages(table["bytes"].chunks)


def _image_chunks(file: Path) -> Iterator[pa.Array]:
    """Yield the image bytes of one file, one array a row group."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            for chunk in parquet.read_row_group(group, columns=["image.bytes"]).column("image").chunks:
                yield pc.struct_field(chunk, "bytes")


def _write_images(files: Sequence[Path], target: IO[bytes]) -> None:
    """Write all image bytes of Parquet files as one Arrow file."""
    schema = pa.schema([("bytes", pa.large_binary())])
    with pa.ipc.new_file(target, schema) as writer:
        for chunk in (chunk for file in files for chunk in _image_chunks(file)):
            writer.write_batch(pa.record_batch([chunk.cast(pa.large_binary())], schema=schema))


def _cache_key(files: Sequence[Path], fingerprint: str) -> str:
    """Return a file name of its own for these files in this state."""
    return hashlib.sha256("\0".join([*map(str, files), fingerprint]).encode()).hexdigest()[:32]
