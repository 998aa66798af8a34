"""Grey image files that tests write."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def grey_and_alpha_of_16_bits() -> bytes:
    """Return a PNG file of one pixel, of a kind that Pillow reads and never writes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 4, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HH", 700, 65535)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def write_halves(root: Path, *, highest: int, images_a_class: int, size: int = 8) -> Path:
    """Write 16-bit PNG files of two classes, `left` and `right`: the brighter half of noise.

    Args:
        root: Gets a folder for each class.
        highest: Largest value; with 255 all images are black in 8 bits.
        images_a_class: How many images each class has.
        size: Height and width in pixels.
    """
    draw = np.random.default_rng(0)
    for label, name in enumerate(("left", "right")):
        (root / name).mkdir(parents=True)
        for number in range(images_a_class):
            pixels = draw.integers(0, highest // 2 + 1, (size, size))
            pixels[:, label * size // 2 :][:, : size // 2] += highest // 2
            Image.fromarray(pixels.astype(np.uint16)).save(root / name / f"{number:03}.png")
    return root
