"""Images by row, whose shards are fetched when they are needed."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.sources.arrow_images import ArrowImages
from pipeline.data.sources.base import UnreadableImageError, decode_image
from pipeline.data.streaming.shards import Shards

_MAX_OPEN = 8
"""Shards that a process holds open; chosen: two windows of the sampler."""


class StreamedImages:
    """The rows of all shards, shard by shard.

    Args:
        shards: What holds them.
        shard_rows: Number of rows of every shard; shape (shards,).
    """

    def __init__(self, shards: Shards, shard_rows: npt.NDArray[np.int64]) -> None:
        self.shards = shards
        self._ends = np.cumsum(shard_rows)
        self._open: OrderedDict[int, ArrowImages] = OrderedDict()

    def shard_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the index of the shard that holds each row; shape as `rows`."""
        return np.searchsorted(self._ends, rows, side="right")

    def load(self) -> None:
        """Do nothing: what is needed is fetched when it is."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded as `decode_image` does.

        Raises:
            UnreadableImageError: If the row has no image, or it cannot be decoded.
            JobError: If its shard cannot be fetched.
        """
        shard = int(np.searchsorted(self._ends, row, side="right"))
        local_row = row - int(self._ends[shard - 1] if shard else 0)
        return read_row(self._images(shard), local_row, self.shards.names[shard], channels)

    def _images(self, shard: int) -> ArrowImages:
        """Return an open shard; the one that was not read for the longest time makes room."""
        if shard not in self._open:
            self._open[shard] = ArrowImages(self.shards.open(shard)["bytes"].chunks)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


def read_row(images: ArrowImages, row: int, shard: str, channels: int) -> Image.Image:
    """Return an image of an open shard; raises UnreadableImageError naming shard and row."""
    encoded = images.encoded(row)
    if encoded is None:
        raise UnreadableImageError(f"{shard} row {row}: the row must have one image, it has none or two")
    return decode_image(encoded, f"{shard} row {row}", channels)
