"""Images for networks of one channel, from the source to the tensor; 16 bits stay 16 bits."""

import base64
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.data_plan import DataPlan
from pipeline.data.loading import set_epoch, train_loader
from pipeline.data.sources import open_source
from pipeline.data.sources.decoded import DecodedSource
from pipeline.data.thumbnails import png_thumbnail
from pipeline.data.transforms import Preprocessing, eval_transform, train_transform
from pipeline.errors import RequestError
from pipeline.recipe import AugmentationConfig
from tests.grey_images import grey_and_alpha_of_16_bits, write_halves

GREY = Preprocessing(8, (0.5,), (0.25,), "bilinear")
PLAIN = eval_transform(GREY)
TINY = 1e-9  # GiB: everything is larger


@pytest.fixture
def faint(tmp_path):
    return write_halves(tmp_path / "faint", highest=255, images_a_class=4)


@pytest.fixture
def mixed(faint, picture):
    """Grey images of 16 bits, and two that are read as 8 bits."""
    picture(0).save(faint / "left" / "colour.png")
    picture(1, size=5).convert("L").save(faint / "right" / "grey.png")
    return faint


@pytest.mark.parametrize("kind", ["digits", "folder", "Parquet", "tar", "saved data set"])
def test_every_kind_of_source_reads_colours_as_luminance(
    kind, image_folder, parquet_file, tar_samples, saved_to_disk
):
    location = {
        "digits": lambda: "builtin:digits",
        "folder": lambda: image_folder(cat=1, dog=1),
        "Parquet": lambda: parquet_file([0, 1]),
        "tar": lambda: tar_samples([0, 1]),
        "saved data set": lambda: saved_to_disk([0, 1]),
    }[kind]()
    source = open_source(str(location))
    grey = source.read(1, 1)
    assert grey.mode == "L"
    assert grey.tobytes() == source.read(1).convert("L").tobytes()


def pixels(source, channels=1):
    images = [source.read(row, channels) for row in range(len(source))]
    return [(image.mode, image.size, image.tobytes()) for image in images]


def test_kept_pixels_are_those_of_the_files_in_both_depths(mixed, cache_dir):
    source = open_source(str(mixed))
    kept = DecodedSource(source, 10_000, channels=1)
    kept.load()
    assert {mode for mode, _, _ in pixels(kept)} == {"L", "F"}
    assert pixels(kept) == pixels(source)
    assert pixels(pickle.loads(pickle.dumps(kept))) == pixels(source)
    assert len(list((cache_dir / "pixels").glob("*.arrow"))) == 1


def test_images_kept_as_grey_and_as_colours_are_kept_apart(mixed, cache_dir):
    source = open_source(str(mixed))
    grey, colours = DecodedSource(source, 10_000, channels=1), DecodedSource(source, 10_000)
    grey.load()
    colours.load()
    assert len(list((cache_dir / "pixels").glob("*.arrow"))) == 2
    assert pixels(grey, channels=3) == pixels(colours, channels=3) == pixels(source, channels=3)


def test_a_plan_knows_channels_depth_and_bytes_of_its_images(prepare, mixed, tmp_path):
    prepare(mixed, channels=1).save(tmp_path / "plan.npz")
    plan = DataPlan.load(tmp_path / "plan.npz")
    assert (plan.channels, plan.is_deep) == (1, True)
    assert plan.train_decoded_bytes == 8 * 64 * 4 + 64 + 25


def test_images_of_8_bits_are_not_deep(prepare, image_folder):
    plan = prepare(image_folder(cat=4, dog=4), channels=1)
    assert (plan.is_deep, plan.train_decoded_bytes) == (False, 8 * 64)


def test_grey_whose_values_are_not_known_falls_under_the_rule_for_bad_items(prepare, faint):
    Image.fromarray(np.ones((8, 8), np.float32)).save(faint / "left" / "floats.tiff")
    (faint / "right" / "alpha.png").write_bytes(grey_and_alpha_of_16_bits())
    with pytest.raises(RequestError, match=r"(?s)left/floats\.tiff: .* mode F .*right/alpha\.png: .* alpha"):
        prepare(faint, channels=1)
    plan = prepare(faint, channels=1, bad_items="skip", max_bad_fraction=0.2)
    assert (len(plan.skipped), len(plan.train_rows) + len(plan.validation_rows)) == (2, 8)


def loaded(plan, transform=PLAIN):
    """Return the images of one epoch."""
    loader = train_loader(plan, transform, batch_size=6, rank=0, world_size=1, seed=1, num_loader_workers=0)
    set_epoch(loader, 0)
    return torch.cat([images for images, _ in loader])


def deep_png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint16)).save(file, "PNG")
    return file.getvalue()


def test_streamed_images_are_those_of_whole_data(prepare, parquet_file):
    for shard in range(4):
        images = [deep_png(1000 * shard + 10 * row) for row in range(4)]
        folder = parquet_file([0, 1, 0, 1], f"all/{shard}.parquet", images=images).parent
    plans = [prepare(folder, channels=1), prepare(folder, channels=1, cache_limit_gib=TINY)]
    assert [plan.is_deep for plan in plans] == [True, True]
    assert len(plans[1].train_shard_rows) == 4
    whole, streamed = [loaded(plan)[:, 0, 0, 0].sort().values for plan in plans]
    assert torch.equal(whole, streamed)


def test_one_step_of_16_bits_is_one_step_of_the_tensor(prepare, parquet_file):
    images = [deep_png(300 + row) for row in range(8)]
    tensors = loaded(prepare(parquet_file([0, 1] * 4, images=images), channels=1))
    assert tensors.shape == (6, 1, 8, 8)
    steps = (tensors.amax((1, 2, 3)) * 0.25 + 0.5) * 65535
    assert (steps - steps.round()).abs().max() < 0.01
    assert len(steps.round().unique()) == 6


def grey_image(mode):
    values = (
        np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8 if mode == "L" else np.float32)
    )
    return Image.fromarray(values)


ANY_DEPTH = [{}, {"color_jitter": 0.4}, {"erasing": 1.0}]
POLICIES = ["trivial", "rand-m5", "augmix-m3-w3", "3a", "original"]


@pytest.mark.parametrize("crop", ["random_resized", "pad", "none"])
@pytest.mark.parametrize(
    ("mode", "augmentation"),
    [(mode, settings) for mode in ("L", "F") for settings in ANY_DEPTH]
    + [("L", {"policy": name, "color_jitter": 0.4}) for name in POLICIES],
)
def test_what_may_vary_grey_images_gives_tensors_that_differ(crop, mode, augmentation):
    image = grey_image(mode)
    transform = train_transform(
        GREY, crop=crop, flip_probability=0.5, augmentation=AugmentationConfig(**augmentation)
    )
    tensors = [transform(image) for _ in range(30)]
    assert {(one.shape, one.dtype) for one in tensors} == {((1, 8, 8), torch.float32)}
    assert len({one.numpy().tobytes() for one in tensors}) > 1


@pytest.mark.parametrize("mode", ["L", "F"])
def test_jitter_varies_how_bright_all_of_an_image_is_and_stays_within_range(mode):
    transform = train_transform(
        GREY, crop="none", flip_probability=0.0, augmentation=AugmentationConfig(color_jitter=0.9)
    )
    tensors = torch.stack([transform(grey_image(mode)) for _ in range(30)])
    assert tensors.mean((1, 2, 3)).std() > 0.1
    assert -2 <= tensors.min() < tensors.max() <= 2


def test_a_grey_thumbnail_is_the_picture():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    shown = Image.open(io.BytesIO(base64.b64decode(png_thumbnail(PLAIN(image), GREY))))
    assert shown.mode == "L"
    assert shown.tobytes() == image.tobytes()
