"""Hugging Face data sets as `save_to_disk` leaves them: Arrow stream files with two descriptions in JSON."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline.data.file_kinds import SAVED_INFO, SAVED_SPLITS, SAVED_STATE
from pipeline.data.sources.arrow_images import ArrowImages
from pipeline.data.sources.base import UnreadableImageError, decode_image
from pipeline.data.sources.fingerprints import file_facts, fingerprint_of
from pipeline.data.sources.labels import index_labels, raw_label_text
from pipeline.data.sources.parquet_files import label_kind


class HuggingFaceSource:
    """The rows of one saved data set, memory mapped, files in the order that the data set names them.

    Images are the column of the feature `Image`, labels that of `ClassLabel`, else the column `label`. Class
    names are those of `ClassLabel`, else the distinct labels in sorted order, integers by value.

    Args:
        location: The folder that `save_to_disk` wrote.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = data_files(Path(location))
        features = _features(Path(location))
        tables = [_map_table(file) for file in self._files]
        image, label = _image_column(features), _label_column(features)
        chunks = [chunk for table in tables for chunk in table[image].chunks]
        self._images = ArrowImages([pc.struct_field(chunk, "bytes") for chunk in chunks])
        labels = [chunk for table in tables for chunk in table[label].chunks]
        kind = pa.int64() if label_kind(tables[0].schema.field(label).type) == "integer" else pa.string()
        self._raw_labels = pa.chunked_array([chunk.cast(kind) for chunk in labels], kind)
        names = features[label].get("names")
        self.class_names, self.labels = index_labels(
            self._raw_labels, tuple(map(str, names)) if names else None
        )

    def __reduce__(self) -> tuple[type["HuggingFaceSource"], tuple[str]]:
        return HuggingFaceSource, (self.location,)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and modification times of the data files."""
        return fingerprint_of(file_facts(file, file.name) for file in self._files)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._raw_labels)

    def raw_label(self, row: int) -> str:
        """Return the label as it stands in the file: `null`, `7`, `'cat'`."""
        return raw_label_text(self._raw_labels, row)

    def load(self) -> None:
        """Do nothing: the files are memory mapped."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded as `decode_image` does.

        Raises:
            UnreadableImageError: If the row has no bytes, or they cannot be decoded.
        """
        encoded = self._images.encoded(row)
        if encoded is None:
            raise UnreadableImageError(f"{self.where(row)}: the image has no bytes")
        return decode_image(encoded, self.where(row), channels)

    def where(self, row: int) -> str:
        """Return the row, counted from 0 over all files, such as `cifar10/train row 12`."""
        path = Path(self.location)
        return f"{path.parent.name}/{path.name} row {row}"


def is_saved_to_disk(path: Path) -> bool:
    """Return whether a path is a folder that `save_to_disk` wrote, of one data set or of several splits."""
    return (path / SAVED_STATE).is_file() or (path / SAVED_SPLITS).is_file()


def data_files(root: Path) -> list[Path]:
    """Return the Arrow files of a saved data set; raises ValueError if its description is not one."""
    try:
        state = json.loads((root / SAVED_STATE).read_text())
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ValueError(f"{SAVED_STATE} does not list data files ({err})") from err
    if state.get("_indices_data_files"):
        raise ValueError("its rows are chosen by an index file")
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{SAVED_STATE} names a file outside the folder, {outside[0]!r}")
    return [root / name for name in names]


def check_hugging_face(root: Path) -> list[str]:
    """Return what keeps a folder from being one saved data set of images; reads no image.

    Args:
        root: A folder for which `is_saved_to_disk` holds.
    """
    if not (root / SAVED_STATE).is_file():
        return [_splits_problem(root)]
    try:
        files, features = data_files(root), _features(root)
        columns = _image_column(features), _label_column(features)
        num_rows = sum(_checked_rows(file, *columns) for file in files)
    except (OSError, ValueError, pa.ArrowInvalid) as err:
        return [
            f"a saved Hugging Face data set must hold images with labels, {str(root)!r} does not ({err}); "
            "save it again with save_to_disk"
        ]
    if not num_rows:
        return [f"data must hold images, {str(root)!r} has 0 rows; name a data set with rows"]
    return []


def _splits_problem(root: Path) -> str:
    """Return the message for a folder of splits, which are data sets of their own."""
    folders = sorted(entry.name for entry in root.iterdir() if (entry / SAVED_STATE).is_file())
    split = "train" if "train" in folders or not folders else folders[0]
    return (
        f"a data location must be one split of a Hugging Face data set, {str(root)!r} holds several "
        f"({', '.join(folders) or 'none that is whole'}); name {str(root / split)!r}"
    )


def _checked_rows(file: Path, image: str, label: str) -> int:
    """Return the number of rows of a data file; raises ValueError if a column is of the wrong type."""
    table = _map_table(file)
    for column in (image, label):
        if column not in table.column_names:
            raise ValueError(f"{file.name} has only the columns {', '.join(table.column_names)}")
    type_ = table.schema.field(image).type
    if not pa.types.is_struct(type_) or type_.get_field_index("bytes") < 0:
        raise ValueError(f"{file.name} has {image} of type {type_}, not a struct with bytes")
    if label_kind(table.schema.field(label).type) is None:
        raise ValueError(f"{file.name} has {label} of type {table.schema.field(label).type}")
    return int(table.num_rows)


def _map_table(file: Path) -> pa.Table:
    """Return a data file without reading its images."""
    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def _features(root: Path) -> dict[str, dict[str, Any]]:
    """Return the description of every column; raises ValueError if there is none."""
    try:
        features = json.loads((root / SAVED_INFO).read_text())["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"{SAVED_INFO} does not describe the columns ({err})") from err


def _image_column(features: dict[str, dict[str, Any]]) -> str:
    """Return the column of images: `image`, else the only one of the feature `Image`."""
    found = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    raise ValueError(
        f"{SAVED_INFO} must name one column of the feature Image, it names {', '.join(found) or 'none'}"
    )


def _label_column(features: dict[str, dict[str, Any]]) -> str:
    """Return the column of labels: `label`, else the only one of the feature `ClassLabel`."""
    found = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    if "label" in features or len(found) == 1:
        return "label" if "label" in features else found[0]
    raise ValueError(f"{SAVED_INFO} must name one column of labels, it names {', '.join(found) or 'none'}")
