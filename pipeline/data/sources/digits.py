"""`builtin:digits`: scikit-learn's 1,797 handwritten digits of 8x8 pixels, at hand without a network.

Source: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI, 1998; scikit-learn's copy.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

LOCATION = "builtin:digits"
_MAX_INK = 16  # load_digits gives 0 (paper) to 16 (ink)


class DigitsSource:
    """The digits as grey images, of RGB by default, classes `0` to `9`."""

    location = LOCATION
    class_names = tuple("0123456789")
    fingerprint = "digits1797-builtin"

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The digit of every row; shape (1797,)."""
        return _digits()[1]

    def __len__(self) -> int:
        """Return 1797."""
        return len(_digits()[1])

    def raw_label(self, row: int) -> str:
        """Return the digit."""
        return str(self.labels[row])

    def load(self) -> None:
        """Do nothing: scikit-learn holds the images in memory."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image of 8x8 pixels, ink white on black."""
        image = Image.fromarray(_digits()[0][row])
        return image if channels == 1 else image.convert("RGB")

    def where(self, row: int) -> str:
        """Return the row in scikit-learn's order."""
        return f"{LOCATION} row {row}"


@lru_cache(maxsize=1)
def _digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return pixels of 0 to 255, shape (1797, 8, 8), and digits, shape (1797,)."""
    # Imported here: training workers import this module, and scikit-learn takes a second that few need.
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / _MAX_INK)).astype(np.uint8)
    return pixels, digits.target.astype(np.int64)
