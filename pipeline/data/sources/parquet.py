"""Parquet in the Hugging Face layout: `image` a struct with `bytes`, `label` an integer or a string.

Labels are read alone when they are asked for, which workers never do; image bytes when the first image is,
see `arrow_images`.
"""

import bisect
import json
import threading
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.data.sources.arrow_images import ArrowImages, load_images
from pipeline.data.sources.base import UnreadableImageError, decode_image
from pipeline.data.sources.fingerprints import file_facts, fingerprint_of
from pipeline.data.sources.labels import index_labels, raw_label_text
from pipeline.data.sources.parquet_files import label_kind
from pipeline.data.sources.shard_files import find_shards

_LOAD_LOCK = threading.Lock()


class ParquetSource:
    """The rows of one or more Parquet files, files in the order of their names.

    Class names are those of a Hugging Face `ClassLabel` where the schema holds them, else the distinct labels
    in sorted order, integers by value.

    Args:
        location: A .parquet file, a folder of them, or a pattern such as `data/train-*.parquet`.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = find_shards(Path(location), ".parquet")

    def __reduce__(self) -> tuple[type["ParquetSource"], tuple[str]]:
        return ParquetSource, (self.location,)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class the files declare, else of every label."""
        return self._classes[0]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Index into `class_names` a row, or `UNKNOWN_LABEL`; shape (rows,)."""
        return self._classes[1]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and modification times of the files."""
        return fingerprint_of(file_facts(file, file.name) for file in self._files)

    def __len__(self) -> int:
        """Return the number of rows of all files."""
        return self._ends[-1]

    def raw_label(self, row: int) -> str:
        """Return the label as it stands in the file: `null`, `7`, `'cat'`."""
        return raw_label_text(self._raw_labels, row)

    def load(self) -> None:
        """Hold the image bytes of all files, in memory or memory mapped."""
        self._images()

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded as `decode_image` does.

        Raises:
            UnreadableImageError: If the row has no bytes, or they cannot be decoded.
        """
        encoded = self._images().encoded(row)
        if encoded is None:
            raise UnreadableImageError(f"{self.where(row)}: image.bytes is null")
        return decode_image(encoded, self.where(row), channels)

    def where(self, row: int) -> str:
        """Return file and row within it, counted from 0, such as `train.parquet row 12`."""
        index = bisect.bisect_right(self._ends, row)
        start = self._ends[index - 1] if index else 0
        return f"{self._files[index].name} row {row - start}"

    @cached_property
    def _raw_labels(self) -> pa.ChunkedArray:
        """The labels of all files, as they stand there."""
        columns = [_label_column(file) for file in self._files]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        """Class names and every row's index into them."""
        declared = declared_class_names(pq.read_schema(self._files[0]).metadata)
        return index_labels(self._raw_labels, declared)

    @cached_property
    def _ends(self) -> list[int]:
        """Number of rows up to the end of each file."""
        return list(accumulate(pq.read_metadata(file).num_rows for file in self._files))

    def _images(self) -> ArrowImages:
        """Return the image bytes, loaded by the first of many threads that asks."""
        if (images := self.__dict__.get("_loaded")) is None:
            with _LOAD_LOCK:
                images = self.__dict__.get("_loaded") or load_images(self._files, self.fingerprint)
                self.__dict__["_loaded"] = images
        return images


def _label_column(file: Path) -> pa.ChunkedArray:
    """Return the labels of one file as int64 or string, whatever width or encoding they are stored in."""
    with pq.ParquetFile(file) as parquet:
        column = parquet.read(columns=["label"]).column("label")
    return column.cast(pa.int64() if label_kind(column.type) == "integer" else pa.string())


def declared_class_names(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...] | None:
    """Return the names of a Hugging Face `ClassLabel`, None where a schema's metadata declares none."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))
