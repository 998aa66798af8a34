"""What every kind of image source offers, and the one place where bytes become an image."""

import io
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import JobError

UNKNOWN_LABEL = -1
"""Stands in `ImageSource.labels` for a label that is null or names no class."""

BYTES_A_PIXEL = {"RGB": 3, "L": 1, "F": 4}
"""By the Pillow modes that images are read in."""


class UnreadableImageError(JobError):
    """An image that cannot be decoded; the message names its file or row and the decoder's reason."""


class Images(Protocol):
    """Images by row number."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded.

        Args:
            row: Its number.
            channels: 3 for RGB, 1 for grey by the law of `serving.grey`.

        Raises:
            UnreadableImageError: If it is missing or cannot be decoded.
        """


class ImageSource(Images, Protocol):
    """Images with labels, asked by row number.

    A source pickles to its location alone and is opened anew where it is unpickled, so image bytes never
    travel between processes.
    """

    @property
    def location(self) -> str:
        """The place it was opened from, absolute."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class the source declares, also of one without images."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Index into `class_names` a row, or `UNKNOWN_LABEL`; shape (rows,)."""

    @property
    def fingerprint(self) -> str:
        """Text that changes when files change; see `fingerprints`."""

    def __len__(self) -> int:
        """Return the number of rows, usable or not."""

    def raw_label(self, row: int) -> str:
        """Return the label as it is written in the data, for messages."""

    def load(self) -> None:
        """Bring all images within reach of this process and of those forked from it, as `read` else does."""

    def where(self, row: int) -> str:
        """Return the file or row a person has to look at, such as `train.parquet row 12`."""


def decode_image(encoded: bytes | memoryview, where: str, channels: int = 3) -> Image.Image:
    """Return the image that an encoded file holds.

    Args:
        encoded: A whole image file; any object with the buffer protocol will do.
        where: Its file or row, for the message.
        channels: 3 for RGB, 1 for grey by the law of `serving.grey`.

    Returns:
        The image, decoded to its last byte, so that a file cut short is noticed.

    Raises:
        UnreadableImageError: If Pillow cannot decode it, for whatever reason, or its grey has no known range.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        if channels == 1:
            # Imported here: checks on nodes import this module, and `serving` takes seconds with its torch.
            from pipeline.serving.grey import decode_grey

            return decode_grey(image)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as err:  # Pillow's decoders raise nearly any type on broken bytes.
        raise UnreadableImageError(f"{where}: cannot be decoded ({_reason(err)})") from err


def _reason(err: Exception) -> str:
    """Return the decoder's words without the address of the object it read from."""
    if "cannot identify" in str(err):
        return "not an image of a known format"
    return str(err) or type(err).__name__
