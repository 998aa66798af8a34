"""Which files are images or hold them, by name alone: one rule for local folders and object stores."""

import re
from collections.abc import Sequence
from pathlib import PurePath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""Source: torchvision.datasets.folder.IMG_EXTENSIONS, a superset of timm's."""

SHARD_SUFFIXES = (".parquet", ".tar")
"""Files that hold many images each."""

CLASS_FILE = "classes.txt"
"""Beside tar shards: one class name a line, the first for label 0."""

SAVED_STATE, SAVED_INFO, SAVED_SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
"""Files of a Hugging Face data set as `save_to_disk` leaves them."""

# Hugging Face: train-00000-of-00002[-hash].parquet
_PART_OF_A_PARQUET = re.compile(r"^(.+)-\d{5}-of-\d{5}")
_WORDS_FOR_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    "test": "test",
}


def mixed_parts(files: Sequence[PurePath]) -> list[str]:
    """Return a message where shards for training and for validation would be read as one data set.

    Args:
        files: Shards of one kind in one folder.
    """
    suffix = files[0].suffix
    found = {part for file in files for part in _parts_named(file)}
    if len(found) < 2:
        return []
    folder, part = files[0].parent, "train" if "train" in found else min(found)
    pattern = f"{part}-*.parquet" if suffix == ".parquet" else f"*{part}*.tar"
    return [
        f"{suffix} files that are read together must be one part of a data set, {str(folder)!r} holds "
        f"{', '.join(sorted(found))}; write a pattern such as {str(folder / pattern)!r}"
    ]


def _parts_named(file: PurePath) -> list[str]:
    """Return the parts of a data set that the name of a shard speaks of."""
    if file.suffix == ".parquet":
        return [match[1]] if (match := _PART_OF_A_PARQUET.match(file.name)) else []
    words = re.split(r"[^a-z]+", file.name.lower())
    return [_WORDS_FOR_PARTS[word] for word in words if word in _WORDS_FOR_PARTS]
