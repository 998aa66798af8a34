"""How a picture becomes grey, for networks whose input has one channel; one law for training and serving.

The picture that a file holds is read as Pillow mode `L` where it has 8 bits or fewer, else as mode `F`:

- Grey of 8 bits and fewer (`L`, `1`) stays as it is.
- Colour and palettes become luminance in 8 bits, by Pillow's `convert("L")` of the RGB picture.
- Grey of 16 bits (`I;16` in any byte order, and `I` with values from 0 to 65535, as Pillow opens PGM files)
  becomes `F`: the range 0 to 65535 is scaled to 0 to 255, nothing is rounded to 8 bits.
- What is transparent is laid on white, as in scikit-image's `rgba2rgb` and in browsers.
- Grey in floats, or in integers beyond 16 bits, has no stated range and is refused; so is 16-bit grey with an
  alpha channel, of which Pillow (13) keeps 8 bits.

Shapes: H height, W width.
"""

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

MAX_16_BITS = 65535
"""White in 16 bits."""

_BY_255 = np.float32(MAX_16_BITS / 255)  # 257 exactly


class GreyError(ValueError):
    """A whole picture whose grey values are not known in full."""


def decode_grey(image: ImageFile.ImageFile) -> Image.Image:
    """Return an opened picture as grey, decoded to its last byte; see the module for the law.

    Args:
        image: As `Image.open` returns it, not loaded.

    Returns:
        Mode `L`, or mode `F` with values from 0 to 255.

    Raises:
        GreyError: If its values have no stated range, or Pillow does not keep them.
        Exception: Whatever Pillow raises on broken bytes.
    """
    if any(raw_mode == "LA;16B" for *_, raw_mode in image.tile):
        raise GreyError("of 16-bit grey with alpha only 8 bits can be read; save it without alpha")
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(image)
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("L")
    if image.mode == "L":
        return image
    return image.convert("L" if image.mode == "1" else "RGB").convert("L")


def grey_of_16_bits(pixels_HW: np.ndarray) -> Image.Image:
    """Return integers from 0 to 65535 as mode `F` from 0 to 255; a 257th of 65535 is 255 exactly."""
    return Image.fromarray(pixels_HW.astype(np.float32) / _BY_255)


def scale_grey(image: Image.Image) -> Tensor:
    """Return a grey picture as float32 in [0, 1], shape (1, H, W).

    Resizing a picture of mode `F` may overshoot beside sharp edges; as in mode `L`, that is cut off.
    """
    pixels_HW = torch.from_numpy(np.array(image, dtype=np.float32))
    return pixels_HW.clamp_(0, 255).div_(255).unsqueeze(0)


def _deep_grey(image: Image.Image) -> Image.Image:
    """Return grey of more than 8 bits as mode `F`; raises GreyError if its range is not known."""
    pixels_HW = np.asarray(image)
    if image.mode == "F" or pixels_HW.min() < 0 or pixels_HW.max() > MAX_16_BITS:
        raise GreyError(
            f"grey must be integers from 0 to {MAX_16_BITS}, these of mode {image.mode} go from "
            f"{pixels_HW.min():g} to {pixels_HW.max():g}; save it with 8 or 16 bits"
        )
    if (transparent := image.info.get("transparency")) is not None:
        pixels_HW = np.where(pixels_HW == transparent, MAX_16_BITS, pixels_HW)
    return grey_of_16_bits(pixels_HW)
