"""A source that stands before another one and answers some questions itself."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.sources.base import ImageSource


class SourceView:
    """Passes every question on to another source; a subclass answers those it is there for.

    Args:
        inner: The source that is asked.
    """

    def __init__(self, inner: ImageSource) -> None:
        self._inner = inner

    @property
    def location(self) -> str:
        """The place the source was opened from."""
        return self._inner.location

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class the source declares."""
        return self._inner.class_names

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Index into `class_names` a row, or `UNKNOWN_LABEL`; shape (rows,)."""
        return self._inner.labels

    @property
    def fingerprint(self) -> str:
        """Text that changes when files change."""
        return self._inner.fingerprint

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._inner)

    def raw_label(self, row: int) -> str:
        """Return the label as it is written in the data."""
        return self._inner.raw_label(row)

    def load(self) -> None:
        """Bring all images within reach of this process and of those forked from it."""
        self._inner.load()

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded; raises UnreadableImageError if that fails."""
        return self._inner.read(row, channels)

    def where(self, row: int) -> str:
        """Return the file or row a person has to look at."""
        return self._inner.where(row)
