"""The check of Parquet files: readable footers, the right columns, one part of a data set."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.file_kinds import mixed_parts


def check_parquet(files: Sequence[Path]) -> list[str]:
    """Return what keeps files from being images in the Hugging Face layout; reads their footers only."""
    problems = mixed_parts(files)
    label_kinds: set[str | None] = set()
    num_rows = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        except (OSError, pa.ArrowInvalid) as err:
            problems.append(f"data must be readable Parquet, {str(file)!r} is not ({err}); write it again")
            continue
        problems += schema_problems(file, schema)
        label_kinds.add(label_kind(schema.field("label").type) if "label" in schema.names else None)
        num_rows += rows
    return problems or _joint_problems(files[0].parent, label_kinds, num_rows)


def _joint_problems(folder: Path, label_kinds: set[str | None], num_rows: int) -> list[str]:
    """Return what is wrong with files that are well formed each by itself."""
    if len(label_kinds) > 1:
        return [
            f"all labels must be of one kind, {str(folder)!r} has integers and strings; rewrite one of them"
        ]
    if not num_rows:
        return [
            f"data must hold images, the Parquet data in {str(folder)!r} has 0 rows; name files with rows"
        ]
    return []


def schema_problems(file: Path, schema: pa.Schema) -> list[str]:
    """Return one message a column that is missing or of the wrong type."""
    problems = []
    image = schema.field("image").type if "image" in schema.names else None
    if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
        problems.append(
            f"Parquet images must be a column image, a struct with bytes; {str(file)!r} has "
            f"{_column_text(schema, 'image')}; rename or rewrite the column"
        )
    if "label" not in schema.names or label_kind(schema.field("label").type) is None:
        problems.append(
            f"Parquet labels must be a column label of integers or strings; {str(file)!r} has "
            f"{_column_text(schema, 'label')}; rename or rewrite the column"
        )
    return problems


def _column_text(schema: pa.Schema, name: str) -> str:
    """Return the column's type, or, where it is missing, the names there are."""
    if name in schema.names:
        return f"{name} of type {schema.field(name).type}"
    return f"only the columns {', '.join(schema.names)}"


def label_kind(type_: pa.DataType) -> str | None:
    """Return whether a label column holds integers or strings, None for anything else."""
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_integer(value_type):
        return "integer"
    return "string" if pa.types.is_string(value_type) or pa.types.is_large_string(value_type) else None
