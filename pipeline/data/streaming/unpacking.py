"""One shard, of whatever kind, as an Arrow file of labels and encoded images that can be memory mapped."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.sources.parquet_files import label_kind, schema_problems
from pipeline.data.sources.tar_index import NO_IMAGE, scan_shard
from pipeline.errors import JobError, RequestError

_SAMPLES_A_BATCH = 256


def unpack(shard: Path, target: IO[bytes]) -> None:
    """Write the rows of a shard, in order, as columns `label` and `bytes`.

    Args:
        shard: A .parquet file with columns image and label, or a tar shard.
        target: An open file.

    Raises:
        RequestError: If a Parquet file lacks a column.
        JobError: If the shard cannot be read.
    """
    batches = _tar_batches(shard) if shard.suffix == ".tar" else _parquet_batches(shard)
    try:
        first = next(batches, None)
        if first is None:
            raise JobError(f"a shard must hold images, {shard.name!r} has 0 rows; remove it")
        with pa.ipc.new_file(target, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    except (OSError, pa.ArrowException) as err:
        raise JobError(
            f"a shard must be readable and hold images, {shard.name!r} does not ({err}); write it again"
        ) from err


def _parquet_batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yield the row groups of a Parquet file."""
    with pq.ParquetFile(shard) as parquet:
        if problems := schema_problems(shard, parquet.schema_arrow):
            raise RequestError(problem.replace(str(shard), shard.name) for problem in problems)
        is_integer = label_kind(parquet.schema_arrow.field("label").type) == "integer"
        label_type = pa.int64() if is_integer else pa.string()
        metadata = parquet.schema_arrow.metadata  # holds the class names
        schema = pa.schema([("label", label_type), ("bytes", pa.large_binary())], metadata)
        for batch in parquet.iter_batches(_SAMPLES_A_BATCH, columns=["image.bytes", "label"]):
            images = pc.struct_field(batch.column("image"), "bytes").cast(pa.large_binary())
            labels = batch.column("label").cast(label_type)
            yield pa.record_batch([labels, images], schema=schema)


def _tar_batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yield the samples of a tar shard."""
    samples = scan_shard(shard)
    if isinstance(samples, str):
        raise JobError(samples)
    schema = pa.schema([("label", pa.string()), ("bytes", pa.large_binary())])
    with shard.open("rb") as file:
        for start in range(0, len(samples), _SAMPLES_A_BATCH):
            part = samples[start : start + _SAMPLES_A_BATCH]
            images = [
                None
                if sample.offset == NO_IMAGE
                else os.pread(file.fileno(), sample.num_bytes, sample.offset)
                for sample in part
            ]
            yield pa.record_batch([[sample.label for sample in part], images], schema=schema)
