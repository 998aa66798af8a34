"""Image folders: one sub-folder a class, images anywhere below it, as torchvision and timm read them."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.file_kinds import IMAGE_SUFFIXES
from pipeline.data.sources.base import UnreadableImageError, decode_image
from pipeline.data.sources.fingerprints import file_facts, fingerprint_of

_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test"})


class FolderSource:
    """The images below `location`, class by class, both in the order of their names.

    Hidden files and folders, and files of other suffixes, are not images. A class folder without any image
    still names a class, so that its emptiness can be reported.

    Args:
        location: The folder that holds the class folders.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._root = Path(location)
        folders = class_folders(self._root)
        images = [sorted(images_below(folder)) for folder in folders]
        self.class_names = tuple(folder.name for folder in folders)
        self._names = [os.path.relpath(image, location) for group in images for image in group]
        self.labels: npt.NDArray[np.int64] = np.repeat(
            np.arange(len(folders), dtype=np.int64), [len(group) for group in images]
        )

    def __reduce__(self) -> tuple[type["FolderSource"], tuple[str]]:
        return FolderSource, (self.location,)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and modification times of the images."""
        return fingerprint_of(file_facts(self._root / name, name) for name in self._names)

    def __len__(self) -> int:
        """Return the number of image files."""
        return len(self._names)

    def raw_label(self, row: int) -> str:
        """Return the name of the class folder."""
        return self.class_names[int(self.labels[row])]

    def load(self) -> None:
        """Do nothing: every image is a file of its own."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded as `decode_image` does.

        Raises:
            UnreadableImageError: If the file is gone or cannot be decoded.
        """
        try:
            encoded = (self._root / self._names[row]).read_bytes()
        except OSError as err:
            raise UnreadableImageError(f"{self.where(row)}: cannot be read ({err.strerror})") from err
        return decode_image(encoded, self.where(row), channels)

    def where(self, row: int) -> str:
        """Return the file's path below the location, such as `cat/17.png`."""
        return self._names[row]


def class_folders(root: Path) -> list[Path]:
    """Return the sub-folders that are classes, sorted by name."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def images_below(folder: Path | str) -> Iterator[str]:
    """Yield the path of every image below a folder, hidden ones left out, in no certain order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from images_below(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                yield entry.path


def check_folder(root: Path) -> list[str]:
    """Return what keeps a folder from being an image folder; looks at names only, up to the first image.

    Args:
        root: An existing folder.
    """
    try:
        folders = class_folders(root)
        has_images = any(True for folder in folders for _ in images_below(folder))
        names = [folder.name for folder in folders]
    except OSError as err:
        return [f"data must be readable, {str(err.filename)!r} is not ({err.strerror}); grant the access"]
    if not has_images:
        return [
            f"an image folder must hold images in one sub-folder a class, {str(root)!r} holds none "
            f"(sub-folders: {', '.join(names[:5]) or 'none'}); put them in folders such as "
            f"{str(root / 'cat')!r}, or name a .parquet file or a folder of them"
        ]
    if len(names) > 1 and _SPLIT_NAMES.issuperset(name.lower() for name in names):
        return [
            f"the sub-folders of an image folder must be classes, those of {str(root)!r} are parts of a data "
            f"set ({', '.join(names)}); name {str(root / names[0])!r} and {str(root / names[-1])!r}, one for "
            "training, one for validation"
        ]
    return []
