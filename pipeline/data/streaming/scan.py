"""The one pass over all shards before a job starts: labels, class names, and which images cannot be used."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from pipeline.data.bad_items import Decoded, decode_all
from pipeline.data.sources.arrow_images import ArrowImages
from pipeline.data.sources.labels import as_integers, index_labels, raw_label_text
from pipeline.data.sources.parquet import declared_class_names
from pipeline.data.streaming.images import read_row
from pipeline.data.streaming.shards import Shards
from pipeline.errors import RequestError

_log = logging.getLogger(__name__)


class ScannedSource:
    """A source of which every image was looked at once; it gives labels, and no image a second time.

    Args:
        shards: What is scanned; one shard at a time is on this machine, and the next one.
        channels: Which the images are read with.

    Raises:
        RequestError: If a shard lacks a column, or the labels of two are of different kinds.
        JobError: If a shard cannot be read or transferred.

    Attributes:
        shard_rows: Number of rows of every shard; shape (shards,).
        decoded: What decoding all images has shown.
    """

    def __init__(self, shards: Shards, channels: int = 3) -> None:
        self.location, self.fingerprint = shards.location, shards.fingerprint
        self._names = shards.names
        self._channels = channels
        self.decoded = Decoded()
        rows: list[int] = []
        labels: list[pa.Array] = []
        declared = None
        for index, table in enumerate(_tables(shards)):
            self._check(table, shards.names[index], first_row=sum(rows))
            rows.append(table.num_rows)
            # Copied, because a slice of a mapped shard would keep all of it on the disk.
            labels.append(pa.array(table["label"].to_pylist(), table["label"].type))
            declared = declared or declared_class_names(table.schema.metadata)
            _log.info("checked shard %d of %d, %d images", index + 1, len(shards), table.num_rows)
        if len({array.type for array in labels}) > 1:
            raise RequestError(
                f"all labels must be of one kind, {shards.location!r} has integers and strings; rewrite one "
                "of them"
            )
        self.shard_rows: npt.NDArray[np.int64] = np.array(rows, dtype=np.int64)
        self._ends = np.cumsum(self.shard_rows)
        is_tar = shards.names[0].endswith(".tar")
        raw_labels = pa.chunked_array(labels, labels[0].type).combine_chunks()
        self._raw_labels = as_integers(raw_labels) if is_tar else raw_labels
        self.class_names, self.labels = index_labels(self._raw_labels, shards.class_file_names() or declared)

    def __len__(self) -> int:
        """Return the number of rows of all shards."""
        return len(self.labels)

    def raw_label(self, row: int) -> str:
        """Return the label as it is written."""
        return raw_label_text(self._raw_labels, row)

    def where(self, row: int) -> str:
        """Return shard and row within it, such as `train-0003.tar row 12`."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return f"{self._names[shard]} row {row - int(self._ends[shard - 1] if shard else 0)}"

    def load(self) -> None:
        """Do nothing: no image is read again."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Refuse: shards have gone again."""
        raise NotImplementedError(f"images are looked at shard by shard, got row {row}")

    def _check(self, table: pa.Table, name: str, *, first_row: int) -> None:
        """Decode all images of a shard and keep what is wrong with them."""
        shard = _OneShard(ArrowImages(table["bytes"].chunks), name)
        decoded = decode_all(shard, range(table.num_rows), lambda _: None, self._channels)
        decoded.bad = {first_row + row: reason for row, reason in decoded.bad.items()}
        self.decoded.add(decoded)


class _OneShard:
    """The images of one open shard."""

    def __init__(self, images: ArrowImages, name: str) -> None:
        self._images = images
        self._name = name

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return an image; raises UnreadableImageError."""
        return read_row(self._images, row, self._name, channels)


def _tables(shards: Shards) -> Iterator[pa.Table]:
    """Yield the shards one after the other; the next one is fetched meanwhile, the last one dropped."""
    with ThreadPoolExecutor(1) as pool:
        for index in range(len(shards)):
            table = shards.open(index)
            if index + 1 < len(shards):
                pool.submit(shards.fetch, index + 1)
            yield table
            shards.drop(index)
    shards.log_failures()
