"""What a caller sends becomes what evaluation would have made of it."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.data.sources.base import decode_image
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.serving import ImageReader
from pipeline.serving import images as images_module
from tests.grey_images import grey_and_alpha_of_16_bits

PREPROCESSING = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bilinear", 0.9)


@pytest.fixture
def read():
    return ImageReader(PREPROCESSING.to_dict(), (3, 16, 16))


@pytest.fixture
def pictures():
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, size, np.uint8)) for size in ((40, 30, 3), (16, 16, 3))]


def encoded(picture, kind="PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.fixture
def expected(pictures):
    return torch.stack([eval_transform(PREPROCESSING)(picture) for picture in pictures])


@pytest.mark.parametrize(
    "pack",
    [
        list,
        lambda files: np.array(files, dtype=object),
        lambda files: [base64.b64encode(file).decode() for file in files],
        lambda files: np.array([base64.b64encode(file).decode() for file in files]),
        lambda files: pd.DataFrame({"image": files}),
        lambda files: {"image": [base64.b64encode(file).decode() for file in files]},
    ],
    ids=["bytes", "array of bytes", "base64", "array of base64", "table", "dictionary"],
)
def test_files_are_read_as_at_evaluation(read, pictures, expected, pack):
    assert torch.equal(read(pack([encoded(picture) for picture in pictures])), expected)


def test_one_file_alone_is_a_batch_of_one(read, pictures, expected):
    assert torch.equal(read(encoded(pictures[0])), expected[:1])


def test_a_jpeg_is_read_as_it_decodes(read, pictures):
    file = encoded(pictures[0], "JPEG")
    decoded = Image.open(io.BytesIO(file))
    assert torch.equal(read([file])[0], eval_transform(PREPROCESSING)(decoded))


def test_a_palette_image_becomes_rgb(read, pictures):
    indexed = pictures[0].convert("P")
    assert torch.equal(read([encoded(indexed)])[0], eval_transform(PREPROCESSING)(indexed.convert("RGB")))


def test_pixels_are_read_as_at_evaluation(read, pictures, expected):
    arrays = [np.asarray(picture) for picture in pictures]
    assert torch.equal(read(arrays), expected)
    assert torch.equal(read(np.stack([arrays[0], arrays[0]])), expected[[0, 0]])
    # JSON knows integers, but no bytes.
    assert torch.equal(read(np.stack(arrays[1:]).astype(np.int64)), expected[1:])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_are_normalised_only(read, kind):
    images = np.random.default_rng(0).random((2, 3, 16, 16)).astype(kind)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    torch.testing.assert_close(read(images), (torch.tensor(images).float() - mean) / std)
    torch.testing.assert_close(read(torch.tensor(images)), read(images))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([b"no image"], "a whole PNG or JPEG image, image 0 of 8 bytes is not"),
        (["###"], "text is an image file in base64, image 0 is not"),
        ([np.zeros((4, 4), np.uint8)], r"image 0 has shape \(4, 4\) and type uint8; send float32"),
        ([np.zeros((4, 4, 3))], "type float64; send float32"),
        ([np.zeros((0, 4, 3), np.uint8)], r"an image has pixels, image 0 has shape \(0, 4, 3\)"),
        (np.full((1, 4, 4, 3), 256), "pixels are integers from 0 to 255, got 256 to 256 in image 0"),
        (np.zeros((4, 4, 3), np.uint8), r"images form a batch, got an array of shape \(4, 4, 3\)"),
        (3, "images are arrays or files, got int; send float32"),
        (pd.DataFrame({"a": [1], "b": [2]}), "images are one column, got a, b; leave out all but one"),
    ],
)
def test_what_is_no_image_is_refused(read, given, message):
    with pytest.raises(ValueError, match=message):
        read(given)


def test_a_file_that_was_cut_short_is_refused(read, pictures):
    with pytest.raises(ValueError, match="a whole PNG or JPEG image, image 1"):
        read([encoded(pictures[0]), encoded(pictures[1])[:-30]])


def test_other_formats_are_refused(read, pictures):
    with pytest.raises(ValueError, match="a whole PNG or JPEG image"):
        read([encoded(pictures[0], "TIFF")])


def test_an_image_too_large_for_memory_is_refused_before_it_is_decoded(read, pictures, monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="an image has at most 1000 pixels, image 0 has 30 x 40"):
        read([encoded(pictures[0])])


GREY = Preprocessing(16, (0.4,), (0.25,), "bilinear", 0.9)
SHALLOW, DEEP = (
    np.random.default_rng(0).integers(0, values, (2, 20, 24)).astype(kind)
    for values, kind in ((256, np.uint8), (65536, np.uint16))
)


@pytest.fixture
def read_grey():
    return ImageReader(GREY.to_dict(), (1, 16, 16))


@pytest.mark.parametrize("pixels", [SHALLOW, DEEP, DEEP.astype(">u2")], ids=["uint8", "uint16", "big-endian"])
@pytest.mark.parametrize(
    "pack",
    [
        lambda pixels: pixels,
        lambda pixels: pixels[..., None],
        list,
        lambda pixels: [encoded(Image.fromarray(one)) for one in pixels],
    ],
    ids=["array", "array with channel", "list", "files"],
)
def test_grey_pixels_and_files_are_read_as_at_evaluation(read_grey, pixels, pack):
    pictures = [decode_image(encoded(Image.fromarray(one)), "here", channels=1) for one in pixels]
    expected = torch.stack([eval_transform(GREY)(picture) for picture in pictures])
    assert torch.equal(read_grey(pack(pixels)), expected)
    assert expected.shape == (2, 1, 16, 16)


def test_a_colour_file_for_a_grey_network_becomes_luminance(read_grey, pictures):
    grey = pictures[0].convert("L")
    assert torch.equal(read_grey([encoded(pictures[0])])[0], eval_transform(GREY)(grey))


def test_grey_floats_are_normalised_only(read_grey):
    images = np.random.default_rng(0).random((2, 1, 16, 16), dtype=np.float32)
    torch.testing.assert_close(read_grey(images), (torch.tensor(images) - 0.4) / 0.25)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.uint8), r"image 0 has shape \(4, 4, 3\) and type uint8; send float32"),
        (np.zeros((4, 4, 1), np.uint8), r"images form a batch, got an array of shape \(4, 4, 1\)"),
        (
            np.full((1, 4, 4), 256),
            "from 0 to 255, got 256 to 256 in image 0 of type int64.* type uint16 from 0",
        ),
        (np.zeros((1, 3, 16, 16)), r"images have the shape \(any number, 1, 16, 16\), got \(1, 3, 16, 16\)"),
        ([np.zeros((0, 4), np.uint16)], r"an image has pixels, image 0 has shape \(0, 4\)"),
    ],
)
def test_what_is_no_grey_image_is_refused(read_grey, given, message):
    with pytest.raises(ValueError, match=message):
        read_grey(given)


def test_a_file_of_which_the_grey_is_not_known_in_full_is_refused_with_the_reason(read_grey):
    with pytest.raises(ValueError, match="image 1: of 16-bit grey with alpha only 8 bits can be read"):
        read_grey([encoded(Image.fromarray(DEEP[0])), grey_and_alpha_of_16_bits()])
