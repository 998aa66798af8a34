"""From what callers send to what the network takes, by the same steps as at evaluation.

Shapes: B images, C channels, H height, W width.
"""

import base64
import binascii
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

FORMATS = ("PNG", "JPEG")
"""Of encoded images; others are refused before a decoder sees them."""

MAX_PIXELS = 2**26
"""Of one image; chosen: 67 million, more than cameras make and less than memory holds."""

HOW = (
    "send float32 in [0, 1] of shape {tensor}, pixels from 0 to 255 of shape (B, H, W, 3), or a list of PNG "
    "or JPEG files as bytes or base64"
)


class ImageReader:
    """Turns tensors, pixels and image files into normalised tensors.

    Args:
        preprocessing: `image_size`, `mean`, `std`, `interpolation`, `crop_pct`.
        input_shape: Of one image: channels, height, width.
    """

    def __init__(self, preprocessing: Mapping[str, Any], input_shape: Sequence[int]) -> None:
        self._input_shape = tuple(input_shape)
        self._how = HOW.format(tensor=self._shape_text())
        self._mean_C11 = torch.tensor(preprocessing["mean"]).view(-1, 1, 1)
        self._std_C11 = torch.tensor(preprocessing["std"]).view(-1, 1, 1)
        self._transform = create_transform(
            preprocessing["image_size"],
            interpolation=preprocessing["interpolation"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
            crop_pct=preprocessing["crop_pct"],
        )

    def __call__(self, given: Any) -> Tensor:  # noqa: ANN401
        """Return images as the network takes them, float32 of shape (B, C, H, W).

        Args:
            given: Floats in [0, 1] of shape (B, C, H, W); pixels of integers from 0 to 255 and shape
                (B, H, W, 3), or a list of arrays of shape (H, W, 3), of any size; PNG or JPEG files as bytes
                or base64, as a list, an array or the one column of a table.

        Raises:
            ValueError: If it is none of these.
        """
        given = _unwrapped(given)
        if isinstance(given, Tensor):
            given = given.detach().cpu().numpy()
        if isinstance(given, bytes | str):
            given = [given]
        if isinstance(given, np.ndarray) and np.issubdtype(given.dtype, np.floating):
            return self._normalised(given)
        if isinstance(given, np.ndarray) and given.ndim not in (1, 4):
            raise ValueError(f"images form a batch, got an array of shape {given.shape}; {self._how}")
        if not isinstance(given, Iterable):
            raise ValueError(f"images are arrays or files, got {type(given).__name__}; {self._how}")
        images = [self._transform(self._image(one, number)) for number, one in enumerate(given)]
        return torch.stack(images) if images else torch.zeros(0, *self._input_shape)

    def _normalised(self, images_BCHW: np.ndarray) -> Tensor:
        if images_BCHW.ndim != 4 or images_BCHW.shape[1:] != self._input_shape:
            raise ValueError(
                f"images have the shape {self._shape_text()}, got {images_BCHW.shape}; resize them and put "
                "the channels first"
            )
        if images_BCHW.size and not (images_BCHW.min() >= 0 and images_BCHW.max() <= 1):
            raise ValueError(
                f"images have values from 0 to 1, got {images_BCHW.min():g} to {images_BCHW.max():g}; "
                "divide bytes by 255 and leave the normalisation to the model"
            )
        scaled_BCHW = torch.tensor(images_BCHW, dtype=torch.float32)
        return scaled_BCHW.sub_(self._mean_C11).div_(self._std_C11)

    def _image(self, given: Any, number: int) -> Image.Image:  # noqa: ANN401
        if isinstance(given, bytes | bytearray | memoryview):
            return _decoded(bytes(given), number)
        if isinstance(given, str):
            try:
                return _decoded(base64.b64decode(given, validate=True), number)
            except binascii.Error as error:
                raise ValueError(
                    f"text is an image file in base64, image {number} is not ({error})"
                ) from error
        pixels_HWC = np.asarray(given)
        if (
            pixels_HWC.ndim != 3
            or pixels_HWC.shape[-1] != 3
            or not np.issubdtype(pixels_HWC.dtype, np.integer)
        ):
            raise ValueError(
                f"image {number} has shape {pixels_HWC.shape} and type {pixels_HWC.dtype}; {self._how}"
            )
        if pixels_HWC.size and not (pixels_HWC.min() >= 0 and pixels_HWC.max() <= 255):
            raise ValueError(
                f"pixels are integers from 0 to 255, got {pixels_HWC.min()} to {pixels_HWC.max()} in image "
                f"{number}"
            )
        if not pixels_HWC.size:
            raise ValueError(f"an image has pixels, image {number} has shape {pixels_HWC.shape}")
        return Image.fromarray(pixels_HWC.astype(np.uint8))

    def _shape_text(self) -> str:
        return f"(any number, {', '.join(map(str, self._input_shape))})"


def _unwrapped(given: Any) -> Any:  # noqa: ANN401
    """Return the one column of a table, or the one entry of a dictionary."""
    columns = getattr(given, "columns", given if isinstance(given, Mapping) else None)
    if columns is None:
        return given
    if len(columns) != 1:
        raise ValueError(f"images are one column, got {', '.join(map(str, columns))}; leave out all but one")
    (name,) = columns
    column = given[name]
    return column if isinstance(column, np.ndarray) else list(column)


def _decoded(encoded: bytes, number: int) -> Image.Image:
    """Return the RGB image of a file, decoded to its last byte."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        width, height = image.size
        if width * height <= MAX_PIXELS:
            image.load()
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise nearly any type on broken bytes.
        raise ValueError(
            f"a file is a whole {' or '.join(FORMATS)} image, image {number} of {len(encoded)} bytes is not"
        ) from error
    raise ValueError(f"an image has at most {MAX_PIXELS} pixels, image {number} has {width} x {height}")
