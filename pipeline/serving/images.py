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

from .grey import MAX_16_BITS, GreyError, decode_grey, grey_of_16_bits, scale_grey

FORMATS = ("PNG", "JPEG")
"""Of encoded images; others are refused before a decoder sees them."""

MAX_PIXELS = 2**26
"""Of one image; chosen: 67 million, more than cameras make and less than memory holds."""

HOW = "send float32 in [0, 1] of shape {tensor}, {pixels}, or a list of PNG or JPEG files as bytes or base64"

COLOURS = "pixels from 0 to 255 of shape (B, H, W, 3)"
GREY = "pixels of shape (B, H, W) from 0 to 255, or of type uint16 from 0 to 65535"


class ImageReader:
    """Turns tensors, pixels and image files into normalised tensors; for one channel, by the law of `grey`.

    Args:
        preprocessing: `image_size`, `mean`, `std`, `interpolation`, `crop_pct`.
        input_shape: Of one image: channels, height, width.
    """

    def __init__(self, preprocessing: Mapping[str, Any], input_shape: Sequence[int]) -> None:
        self._input_shape = tuple(input_shape)
        self._is_grey = self._input_shape[0] == 1
        self._how = HOW.format(tensor=self._shape_text(), pixels=GREY if self._is_grey else COLOURS)
        self._mean_C11 = torch.tensor(preprocessing["mean"]).view(-1, 1, 1)
        self._std_C11 = torch.tensor(preprocessing["std"]).view(-1, 1, 1)
        self._transform = create_transform(
            preprocessing["image_size"],
            interpolation=preprocessing["interpolation"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
            crop_pct=preprocessing["crop_pct"],
        )
        if self._is_grey:
            self._transform.transforms[-2] = scale_grey  # timm's own takes grey of 8 bits only

    def __call__(self, given: Any) -> Tensor:  # noqa: ANN401
        """Return images as the network takes them, float32 of shape (B, C, H, W).

        Args:
            given: Floats in [0, 1] of shape (B, C, H, W); pixels of integers from 0 to 255 and shape
                (B, H, W, 3), or a list of arrays of shape (H, W, 3), of any size; PNG or JPEG files as bytes
                or base64, as a list, an array or the one column of a table. For one channel, pixels have the
                shape (B, H, W) or (B, H, W, 1), and those of type uint16 go from 0 to 65535.

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
        if isinstance(given, np.ndarray) and not self._is_batch(given):
            raise ValueError(f"images form a batch, got an array of shape {given.shape}; {self._how}")
        if not isinstance(given, Iterable):
            raise ValueError(f"images are arrays or files, got {type(given).__name__}; {self._how}")
        images = [self._transform(self._image(one, number)) for number, one in enumerate(given)]
        return torch.stack(images) if images else torch.zeros(0, *self._input_shape)

    def _is_batch(self, given: np.ndarray) -> bool:
        """Return whether an array is of files or pixels; (H, W, 1) is one image, not a batch of H."""
        return given.ndim in (1, 4) or (self._is_grey and given.ndim == 3 and given.shape[2] != 1)

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
            return self._decoded(bytes(given), number)
        if isinstance(given, str):
            try:
                return self._decoded(base64.b64decode(given, validate=True), number)
            except binascii.Error as error:
                raise ValueError(
                    f"text is an image file in base64, image {number} is not ({error})"
                ) from error
        return self._picture(np.asarray(given), number)

    def _picture(self, pixels: np.ndarray, number: int) -> Image.Image:
        """Return pixels as an image: shape (H, W, 3), of a grey network (H, W) or (H, W, 1)."""
        if self._is_grey and pixels.shape[2:] == (1,):
            pixels = pixels[:, :, 0]
        colours = () if self._is_grey else (3,)
        if (
            pixels.ndim != 2 + len(colours)
            or pixels.shape[2:] != colours
            or not np.issubdtype(pixels.dtype, np.integer)
        ):
            raise ValueError(f"image {number} has shape {pixels.shape} and type {pixels.dtype}; {self._how}")
        has_16_bits = self._is_grey and pixels.dtype.kind == "u" and pixels.itemsize == 2
        highest = MAX_16_BITS if has_16_bits else 255
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= highest):
            raise ValueError(
                f"pixels are integers from 0 to {highest}, got {pixels.min()} to {pixels.max()} in image "
                f"{number} of type {pixels.dtype}; {self._how}"
            )
        if not pixels.size:
            raise ValueError(f"an image has pixels, image {number} has shape {pixels.shape}")
        return grey_of_16_bits(pixels) if has_16_bits else Image.fromarray(pixels.astype(np.uint8))

    def _decoded(self, encoded: bytes, number: int) -> Image.Image:
        """Return the image of a file, decoded to its last byte."""
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            width, height = image.size
            if width * height <= MAX_PIXELS:
                return decode_grey(image) if self._is_grey else _decode_rgb(image)
        except GreyError as error:
            raise ValueError(f"image {number}: {error}") from error
        except Exception as error:  # Pillow's decoders raise nearly any type on broken bytes.
            raise ValueError(
                f"a file is a whole {' or '.join(FORMATS)} image, image {number} of {len(encoded)} bytes is "
                "not"
            ) from error
        raise ValueError(f"an image has at most {MAX_PIXELS} pixels, image {number} has {width} x {height}")

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


def _decode_rgb(image: Image.Image) -> Image.Image:
    """Return an opened image as RGB, decoded to its last byte."""
    image.load()
    return image.convert("RGB")
