"""Small pictures of what a network sees, for people to look at."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from pipeline.data.transforms import Preprocessing

MAX_SIZE = 96
"""Height and width in pixels; chosen: large enough to recognise, some ten kilobytes each."""


def png_thumbnail(image_CHW: Tensor, preprocessing: Preprocessing) -> str:
    """Return a network's input as the picture that it was made of.

    Args:
        image_CHW: Normalised, shape (3 or 1, height, width), on the CPU.
        preprocessing: How it was normalised.

    Returns:
        A PNG file of at most `MAX_SIZE` pixels a side, in base64.
    """
    mean_C11 = torch.tensor(preprocessing.mean).view(-1, 1, 1)
    std_C11 = torch.tensor(preprocessing.std).view(-1, 1, 1)
    pixels_CHW = ((image_CHW * std_C11 + mean_C11) * 255).round().clamp(0, 255).to(torch.uint8)
    # Pillow takes grey without an axis of one.
    picture = Image.fromarray(pixels_CHW.permute(1, 2, 0).squeeze(2).contiguous().numpy())
    picture.thumbnail((MAX_SIZE, MAX_SIZE))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
