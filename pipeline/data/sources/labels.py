"""From labels as they are written to class names and one index a row; one rule for every kind of file."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.sources.base import UNKNOWN_LABEL


def index_labels(
    raw_labels: pa.ChunkedArray | pa.Array, declared: tuple[str, ...] | None
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the class names and every row's index into them.

    Class names are the declared ones, else the distinct labels in sorted order, integers by value. With
    declared names an integer is an index into them and a string one of them.

    Args:
        raw_labels: int64 or string, null for a label that is missing; length rows.
        declared: Name of every class, None where the data names none.

    Returns:
        The names, and an index a row or `UNKNOWN_LABEL`; shape (rows,).
    """
    if declared is not None and pa.types.is_integer(raw_labels.type):
        labels = raw_labels.fill_null(UNKNOWN_LABEL).to_numpy()
        is_known = (labels >= 0) & (labels < len(declared))
        return declared, np.where(is_known, labels, UNKNOWN_LABEL)
    seen = sorted(set(pc.unique(raw_labels).to_pylist()) - {None}) if declared is None else declared
    indices = pc.index_in(raw_labels, value_set=pa.array(seen, raw_labels.type)).fill_null(UNKNOWN_LABEL)
    return tuple(map(str, seen)), indices.to_numpy().astype(np.int64)


def as_integers(labels: pa.Array) -> pa.Array:
    """Return labels given as text as integers where all of them are, else as they are."""
    try:
        return pc.cast(labels, pa.int64())
    except pa.ArrowInvalid:
        return labels


def raw_label_text(raw_labels: pa.ChunkedArray | pa.Array, row: int) -> str:
    """Return a label as it stands in the file: `null`, `7`, `'cat'`."""
    value = raw_labels[row].as_py()
    return "null" if value is None else repr(value)
