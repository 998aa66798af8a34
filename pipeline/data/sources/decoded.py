"""Small data decoded once a machine: the pixels of all images in one file that every process maps.

The pages of that file are in memory once, however many workers and loader processes read them, and the kernel
may drop them where memory runs short. Images keep their own size, so training sees the pixels it would see
without the file.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pyarrow as pa
from PIL import Image

from pipeline.data.cache import cache_folder, make_folder, write_once
from pipeline.data.sources.arrow_images import ArrowImages
from pipeline.data.sources.base import BYTES_A_PIXEL, ImageSource, UnreadableImageError
from pipeline.data.sources.view import SourceView
from pipeline.errors import JobError

LIMIT_BYTES = 2 << 30
"""Data with more pixels than this is decoded anew every epoch; chosen: 700,000 images of 32 pixels, or 14,000
of 224, fit, and no machine that trains misses 2 GiB of disk."""

_SCHEMA = pa.schema([("width", pa.int32()), ("height", pa.int32()), ("pixels", pa.large_binary())])
_MODES = {num_bytes: mode for mode, num_bytes in BYTES_A_PIXEL.items()}
_ROWS_A_BATCH = 128

_log = logging.getLogger(__name__)


def keep_decoded(source: ImageSource, decoded_bytes: int | None, channels: int = 3) -> ImageSource:
    """Return the source with its images decoded once a machine, where they are few enough for that.

    Args:
        source: Opened already.
        decoded_bytes: Size of all its images as pixels; None if it is not known.
        channels: Of the images that will be read.
    """
    is_in_memory = source.location.startswith("builtin:")
    if is_in_memory or not decoded_bytes or decoded_bytes > LIMIT_BYTES:
        return source
    return DecodedSource(source, decoded_bytes, channels)


class DecodedSource(SourceView):
    """A source whose images are decoded when it is loaded, unless that was done on this machine before.

    Where the cache folder cannot be written or has no room, images are decoded at every read as before.

    Args:
        inner: The source.
        decoded_bytes: Size of all its images as pixels, at most `LIMIT_BYTES`.
        channels: Of the images that are kept.
    """

    def __init__(self, inner: ImageSource, decoded_bytes: int, channels: int = 3) -> None:
        super().__init__(inner)
        self._decoded_bytes = decoded_bytes
        self._channels = channels
        self._pixels: ArrowImages | None = None

    def __reduce__(self) -> tuple[type["DecodedSource"], tuple[ImageSource, int, int]]:
        return DecodedSource, (self._inner, self._decoded_bytes, self._channels)

    def load(self) -> None:
        """Map the pixels of all images, after decoding them if no process of this machine has."""
        if self._pixels is None and self._write():
            table = pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()
            self._widths, self._heights = table["width"].to_numpy(), table["height"].to_numpy()
            self._pixels = ArrowImages(table["pixels"].chunks)
        if self._pixels is None:
            self._inner.load()

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image; from the file that is kept where it has so many channels.

        Raises:
            UnreadableImageError: If it could not be decoded.
        """
        kept = self._pixels if channels == self._channels else None
        pixels = None if kept is None else kept.encoded(row)
        if pixels is None:
            return self._inner.read(row, channels)
        width, height = int(self._widths[row]), int(self._heights[row])
        return Image.frombytes(_MODES[len(pixels) // (width * height)], (width, height), pixels)

    @property
    def _file(self) -> Path:
        """The file of this location in this state, read as so many channels."""
        read_as = "" if self._channels == 3 else f"\0{self._channels}"
        key = hashlib.sha256(f"{self.location}\0{self.fingerprint}{read_as}".encode()).hexdigest()[:32]
        return cache_folder("pixels") / f"{key}.arrow"

    def _write(self) -> bool:
        """Make the file unless it is there; returns False where it cannot be."""
        try:
            if not self._file.exists():
                make_folder(self._file.parent)
                if shutil.disk_usage(self._file.parent).free < 2 * self._decoded_bytes:
                    raise JobError("it has no room")
            write_once(self._file, self._decode_all)
        except (OSError, JobError) as err:
            folder, size = cache_folder("pixels"), self._decoded_bytes / 2**20
            _log.warning(
                "images are decoded every epoch: %.0f MiB of pixels cannot be kept in %s (%s)",
                size,
                folder,
                err,
            )
            return False
        return True

    def _decode_all(self, file: IO[bytes]) -> None:
        """Write width, height and pixels of every row; all null where it cannot be decoded."""
        start_s = time.monotonic()
        self._inner.load()
        with pa.ipc.new_file(file, _SCHEMA) as writer:
            for batch in self._batches():
                writer.write_batch(batch)
        _log.info(
            "decoded %d images, %.0f MiB of pixels, once for this machine in %.1f s",
            *(len(self), self._decoded_bytes / 2**20, time.monotonic() - start_s),
        )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, decoded on every core; few batches are in memory at a time."""
        num_threads = len(os.sched_getaffinity(0))
        starts = range(0, len(self), _ROWS_A_BATCH)
        with ThreadPoolExecutor(num_threads) as pool:
            for group in range(0, len(starts), num_threads):
                yield from pool.map(self._batch, starts[group : group + num_threads])

    def _batch(self, start: int) -> pa.RecordBatch:
        """Return some rows from one on, null where they cannot be decoded."""
        images = [self._try_read(row) for row in range(start, min(start + _ROWS_A_BATCH, len(self)))]
        columns = [
            [image and image.width for image in images],
            [image and image.height for image in images],
            [image and image.tobytes() for image in images],
        ]
        return pa.record_batch(columns, schema=_SCHEMA)

    def _try_read(self, row: int) -> Image.Image | None:
        """Return an image, None if it cannot be decoded."""
        try:
            return self._inner.read(row, self._channels)
        except UnreadableImageError:
            return None
