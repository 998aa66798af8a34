"""How a picture becomes grey: exact values by kind of picture, from files that the tests write."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.serving.grey import GreyError, decode_grey, scale_grey
from tests.grey_images import grey_and_alpha_of_16_bits

EIGHT = np.array([[0, 7, 100], [128, 254, 255]], np.uint8)
DEEP = np.array([[0, 1, 255], [256, 25700, 65535]], np.uint16)
RED_GREEN_BLUE = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
OPACITY = np.array([[0, 128, 255]], np.uint8)


def written(picture, kind="PNG", **options):
    """Return a picture, or an array, as an opened file."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return Image.open(file)


def with_opacity(picture):
    picture.putalpha(Image.fromarray(OPACITY))
    return picture


def palette():
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette(RED_GREEN_BLUE.tobytes())
    return picture


EIGHT_BITS = {
    "L": (lambda: written(EIGHT), EIGHT),
    "1": (lambda: written(Image.fromarray(EIGHT).point(lambda value: value > 99, "1")), (EIGHT > 99) * 255),
    # Rec. 601: 0.299 red, 0.587 green, 0.114 blue.
    "RGB": (lambda: written(RED_GREEN_BLUE), [[76, 150, 29]]),
    "P": (lambda: written(palette()), [[76, 150, 29]]),
    "CMYK": (lambda: written(Image.fromarray(RED_GREEN_BLUE).convert("CMYK"), "TIFF"), [[76, 150, 29]]),
    "equal colours": (lambda: written(np.repeat(EIGHT[..., None], 3, axis=2)), EIGHT),
    "LA": (lambda: written(with_opacity(Image.new("L", (3, 1), 100))), [[255, 177, 100]]),
    "RGBA": (lambda: written(with_opacity(Image.new("RGB", (3, 1), "black"))), [[255, 127, 0]]),
    "P with a clear colour": (lambda: written(palette(), transparency=1), [[76, 255, 29]]),
    "L with a clear value": (lambda: written(EIGHT, transparency=7), [[0, 255, 100], [128, 254, 255]]),
}


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_pictures_of_8_bits_become_luminance_on_white(kind):
    opened, expected = EIGHT_BITS[kind]
    grey = decode_grey(opened())
    assert grey.mode == "L"
    assert np.asarray(grey).tolist() == np.asarray(expected).tolist()


SIXTEEN_BITS = {
    "I;16": lambda: written(DEEP),
    "I;16 little end first": lambda: written(DEEP, "TIFF"),
    "I;16B": lambda: written(DEEP.astype(">u2"), "TIFF"),
    "I of PGM": lambda: written(DEEP, "PPM"),
    "I within 16 bits": lambda: written(DEEP.astype(np.int32), "TIFF"),
}


@pytest.mark.parametrize("kind", SIXTEEN_BITS)
def test_grey_of_16_bits_is_scaled_and_not_rounded(kind):
    grey = decode_grey(SIXTEEN_BITS[kind]())
    assert grey.mode == "F"
    assert np.array_equal(np.asarray(grey), (DEEP / 257).astype(np.float32))
    assert (grey.getpixel((1, 1)), grey.getpixel((2, 1))) == (100.0, 255.0)


def test_a_clear_value_of_16_bits_is_white():
    grey = decode_grey(written(DEEP, transparency=256))
    assert grey.getpixel((0, 1)) == 255.0
    assert grey.getpixel((1, 1)) == 100.0


@pytest.mark.parametrize(
    ("opened", "message"),
    [
        (
            lambda: written(DEEP.astype(np.float32), "TIFF"),
            r"these of mode F go from 0 to 65535; save it with",
        ),
        (lambda: written(DEEP.astype(np.int32) + 1, "TIFF"), "these of mode I go from 1 to 65536; save it"),
        (lambda: written(DEEP.astype(np.int32) - 1, "TIFF"), "these of mode I go from -1 to 65534; save it"),
        (
            lambda: Image.open(io.BytesIO(grey_and_alpha_of_16_bits())),
            "of 16-bit grey with alpha only 8 bits can be read; save it without",
        ),
    ],
    ids=["floats", "beyond 16 bits", "below zero", "alpha"],
)
def test_grey_whose_values_are_not_known_is_refused(opened, message):
    with pytest.raises(GreyError, match=message):
        decode_grey(opened())


def test_the_same_picture_in_8_and_16_bits_is_the_same_tensor():
    shallow, deep = decode_grey(written(EIGHT)), decode_grey(written(EIGHT.astype(np.uint16) * 257))
    assert torch.equal(scale_grey(shallow), scale_grey(deep))
    assert scale_grey(shallow).flatten().tolist() == pytest.approx((EIGHT / 255).flatten().tolist())


def test_what_resizing_overshoots_is_cut_off_in_16_bits_as_in_8():
    edge = np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, axis=0)
    pictures = [decode_grey(written(edge)), decode_grey(written(edge.astype(np.uint16) * 257))]
    shallow, deep = [picture.resize((9, 9), Image.Resampling.BICUBIC) for picture in pictures]
    assert deep.getextrema()[0] < 0
    assert (scale_grey(shallow) - scale_grey(deep)).abs().max() <= 0.51 / 255
