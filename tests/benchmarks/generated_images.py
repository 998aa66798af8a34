"""JPEG files that cost about as much to decode as photographs: smooth colours, edges and a little noise."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PHOTOGRAPH = (375, 500)
"""Height and width in pixels of the usual ImageNet photograph."""


def write_jpegs(
    folder: Path, num_images: int, *, size: tuple[int, int] = PHOTOGRAPH, num_classes: int = 2
) -> Path:
    """Write an image folder, one sub-folder a class; the same images at every call.

    Args:
        folder: Is made.
        num_images: Over all classes, which take turns.
        size: Height and width in pixels.
        num_classes: 2 or more.
    """
    for number in range(num_images):
        path = folder / f"class_{number % num_classes}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(structured_image(number, size)).save(path, quality=90)
    return folder


def structured_image(seed: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return an RGB image, shape (H, W, 3), whose JPEG is about as large as a photograph's."""
    random = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*(np.linspace(0, 1, length) for length in size), indexing="ij")
    image = np.zeros((*size, 3))
    for wave in range(1, 8):
        row_cycles, column_cycles = random.normal(scale=2.0 * wave, size=2)
        phase = 2 * np.pi * (row_cycles * rows + column_cycles * columns + random.random())
        image += np.sin(phase)[:, :, None] * random.normal(size=3) / wave
    for _ in range(12):
        row, column, radius = random.uniform(0.05, 0.95, size=3)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < (0.2 * radius) ** 2
        image[inside] = random.normal(size=3)
    image += random.normal(scale=0.2, size=image.shape)
    return np.clip(128 + 60 * image, 0, 255).astype(np.uint8)
