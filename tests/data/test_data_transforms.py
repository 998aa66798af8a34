import json
import random

import pytest
import torch
from PIL import Image
from timm.data import create_transform

from pipeline.data.random_state import seed_transforms
from pipeline.data.transforms import Preprocessing, eval_transform, train_transform
from pipeline.recipe import AugmentationConfig

PREPROCESSING = Preprocessing(32, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "bilinear", 0.875)


def test_preprocessing_survives_json():
    assert Preprocessing.from_dict(json.loads(json.dumps(PREPROCESSING.to_dict()))) == PREPROCESSING


def test_an_unknown_key_of_preprocessing_is_refused():
    with pytest.raises(ValueError, match="got colour, crop_pct"):
        Preprocessing.from_dict(PREPROCESSING.to_dict() | {"colour": 1})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image_size", 0),
        ("std", (1.0, 0.0, 1.0)),
        ("std", (0.25,)),
        ("mean", (0.5, 0.5)),
        ("interpolation", "cubic"),
        ("crop_pct", 1.5),
    ],
)
def test_preprocessing_out_of_range_is_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be"):
        Preprocessing.from_dict(PREPROCESSING.to_dict() | {setting: value})


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (70, 41)])
def test_evaluation_is_bit_for_bit_that_of_timm(size, picture):
    image = picture(0, 80).resize(size)
    expected = create_transform(
        32,
        interpolation="bilinear",
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
        crop_pct=0.875,
    )
    assert torch.equal(eval_transform(PREPROCESSING)(image), expected(image))


@pytest.mark.parametrize("crop", ["random_resized", "pad", "none"])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (90, 50)])
def test_every_crop_gives_a_normalised_square(crop, size):
    tensor = train_transform(PREPROCESSING, crop=crop, flip_probability=0.5)(Image.new("RGB", size, "white"))
    assert (tensor.shape, tensor.dtype) == ((3, 32, 32), torch.float32)
    assert tensor.amax(dim=(1, 2)).tolist() == pytest.approx(
        [0.51 / 0.25, 0.52 / 0.24, 0.55 / 0.26], abs=1e-5
    )


def test_random_resized_crop_is_bit_for_bit_that_of_timm(picture):
    expected = create_transform(
        32,
        is_training=True,
        color_jitter=None,
        interpolation="bilinear",
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
    )
    ours = train_transform(PREPROCESSING, crop="random_resized", flip_probability=0.5)
    tensors = []
    for transform in (ours, expected):
        random.seed(5)
        torch.manual_seed(5)
        tensors.append(transform(picture(0, 50)))
    assert torch.equal(*tensors)


def test_a_padded_crop_moves_the_image_by_at_most_an_eighth():
    image = Image.new("RGB", (32, 32), "white")
    transform = train_transform(PREPROCESSING, crop="pad", flip_probability=0.0)
    visible = [int((transform(image)[0] > 0).sum()) for _ in range(100)]
    assert min(visible) >= 28 * 28
    assert len(set(visible)) > 5


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_are_never_or_always(probability, picture):
    image = picture(0, 32)
    transform = train_transform(PREPROCESSING, crop="none", flip_probability=probability)
    upright = train_transform(PREPROCESSING, crop="none", flip_probability=0.0)(image)
    assert torch.equal(transform(image), upright.flip(2) if probability else upright)


def test_a_flip_probability_above_one_is_refused():
    with pytest.raises(ValueError, match=r"flip_probability must be in \[0, 1\], got 1\.5"):
        train_transform(PREPROCESSING, crop="none", flip_probability=1.5)


def test_an_unknown_crop_is_refused():
    with pytest.raises(ValueError, match=r"crop must be one of .*; got 'middle'"):
        train_transform(PREPROCESSING, crop="middle", flip_probability=0.5)


AUGMENTATIONS = {
    "randaugment": {"policy": "rand-m9-mstd0.5-inc1"},
    "trivial": {"policy": "trivial"},
    "augmix": {"policy": "augmix-m3-w3"},
    "3a": {"policy": "3a"},
    "jitter": {"color_jitter": 0.4},
    "erasing": {"erasing": 1.0},
}


def _augmented(image, seed, **augmentation):
    transform = train_transform(
        PREPROCESSING, crop="none", flip_probability=0.0, augmentation=AugmentationConfig(**augmentation)
    )
    seed_transforms(seed)
    return transform(image)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_images_and_follows_from_the_seed(name, picture):
    image = picture(0, 32)
    plain = _augmented(image, 0)
    varied = [_augmented(image, seed, **AUGMENTATIONS[name]) for seed in range(8)]
    assert all(one.shape == plain.shape for one in varied)
    assert len({one.sum().item() for one in varied}) > 1
    for seed, one in enumerate(varied):
        assert torch.equal(one, _augmented(image, seed, **AUGMENTATIONS[name]))


@pytest.mark.parametrize("policy", ["rand-m10-p1-n60-inc1", "rand-m0-p1-n60"])
def test_a_policy_that_leaves_no_bit_of_a_colour_goes_on_with_black(policy, picture):
    assert _augmented(picture(0, 32), 0, policy=policy).isfinite().all()


def test_erasing_leaves_most_of_the_image_as_it_was(picture):
    image = picture(0, 32)
    is_kept = (_augmented(image, 0) == _augmented(image, 0, erasing=1.0)).all(dim=0)
    assert 0.5 < is_kept.float().mean().item() < 1.0
