"""From a PIL image to a normalised tensor, by timm's and torchvision's transforms.

Images are RGB, or grey by the law of `serving.grey`. Legend of shapes: C colours, H height, W width.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, cast, get_args

import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp, posterize
from timm.data.transforms import str_to_interp_mode
from torch import Tensor
from torchvision import transforms

from pipeline.recipe import TRIVIAL, AugmentationConfig
from pipeline.serving.grey import scale_grey

Transform = Callable[[Image.Image], Tensor]
"""Image of any size to float32 of shape (C, image_size, image_size)."""

Crop = Literal["random_resized", "pad", "none"]
"""`random_resized`: a random part of the image, resized, as for ImageNet. `pad`: the whole image resized,
padded with black by an eighth of its size all around, a random window of it, as for CIFAR. `none`: resized,
the centre kept."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]

_PADDING_PART = 8  # 4 pixels at 32; Source: He et al. 2015, arXiv:1512.03385, section 4.2


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input, at evaluation and, with chance added, in training.

    Args:
        image_size: Height and width of the input in pixels, 1 or more.
        mean: Subtracted from red, green and blue, or from grey, of pixels scaled to [0, 1].
        std: Divides them afterwards; above 0.
        interpolation: Pillow filter for resizing.
        crop_pct: Part of the resized image that evaluation keeps, in (0, 1]; 1 keeps the whole shorter side.

    Raises:
        ValueError: If a value is out of its range; all of them are listed.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise ValueError("\n".join(problems))

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the preprocessing that `to_dict` described.

        Raises:
            ValueError: If a key is missing or unknown, or a value out of its range.
        """
        expected = {field.name for field in fields(cls)}
        if values.keys() != expected:
            raise ValueError(
                f"preprocessing must have the keys {', '.join(sorted(expected))}; got "
                f"{', '.join(sorted(values))}; add the missing and remove the unknown ones"
            )
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def _problems(self) -> list[str]:
        """Return one message a value that is out of its range."""
        problems = []
        if self.image_size < 1:
            problems.append(f"image_size must be 1 or more, got {self.image_size}; 224 is usual")
        if len(self.mean) not in (1, 3) or not all(map(math.isfinite, self.mean)):
            problems.append(f"mean must be 3 finite numbers, 1 for grey, got {self.mean}; write one a colour")
        is_positive = all(math.isfinite(value) and value > 0 for value in self.std)
        if len(self.std) != len(self.mean) or not is_positive:
            problems.append(
                f"std must be as many numbers above 0 as mean, got {self.std}; write one a colour"
            )
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            problems.append(f"interpolation must be one of {known}; got {self.interpolation!r}")
        if not 0 < self.crop_pct <= 1:
            problems.append(f"crop_pct must be in (0, 1], got {self.crop_pct}; 1 keeps the whole image")
        return problems


class _ToNormalisedTensor:
    """Of RGB, bit for bit timm's `MaybeToTensor` and `Normalize`, in 40 % of their time on small images.

    Source: 15 instead of 37 µs for 32x32 pixels on one core; they are a sixth of what such an image costs.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean_C11 = torch.tensor(preprocessing.mean).view(3, 1, 1)
        self._std_C11 = torch.tensor(preprocessing.std).view(3, 1, 1)

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the RGB image as float32, shape (3, H, W)."""
        pixels_HWC = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels_CHW = pixels_HWC.view(image.height, image.width, 3).permute(2, 0, 1)
        scaled_CHW = pixels_CHW.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return scaled_CHW.sub_(self._mean_C11).div_(self._std_C11)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Return timm's transform without chance: resize the shorter side, crop the centre, normalise."""
    timm_transform = create_transform(
        preprocessing.image_size,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_pct=preprocessing.crop_pct,
    )
    return _compose(timm_transform.transforms[:-2], preprocessing)


def train_transform(
    preprocessing: Preprocessing,
    *,
    crop: Crop,
    flip_probability: float,
    augmentation: AugmentationConfig | None = None,
) -> Transform:
    """Return timm's training transform: crop, flip, policy, normalise, erase.

    It draws from the random state of torch, numpy and Python, which `loading` seeds for each image.

    Args:
        preprocessing: Size, resizing and normalisation; `crop_pct` plays no part in training.
        crop: What part of the image is seen.
        flip_probability: Chance in [0, 1] of left and right changing places; 0 where that changes the
            class, as for digits.
        augmentation: What else varies an image; None is nothing. Policies are for 8 bits a channel, all
            else takes grey of any depth.

    Raises:
        ValueError: If `flip_probability` is out of its range or `crop` unknown.
    """
    if not 0 <= flip_probability <= 1:
        raise ValueError(f"flip_probability must be in [0, 1], got {flip_probability}; 0 turns it off")
    more = augmentation or AugmentationConfig()
    before, varying, after = create_transform(
        preprocessing.image_size,
        is_training=True,
        separate=True,
        hflip=flip_probability,
        color_jitter=more.color_jitter or None,
        auto_augment=None if more.policy == TRIVIAL else more.policy,
        re_prob=more.erasing,
        re_mode="pixel",
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    for operation in policy_operations(varying):
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    steps = list(before.transforms)
    if crop != "random_resized":  # timm's first step is that crop; the others are kept.
        steps[:1] = _whole_image_steps(preprocessing, crop)
    policy = [transforms.TrivialAugmentWide()] if more.policy == TRIVIAL else varying.transforms
    # After the image has become a tensor and was normalised comes the erasing, if any.
    return _compose([*steps, *policy], preprocessing, erasing=after.transforms[2:])


def policy_operations(transform: Any) -> Iterator[AugmentOp]:  # noqa: ANN401
    """Yield every operation that timm's policies in a composed transform may draw."""
    for step in transform.transforms:
        groups = getattr(step, "policy", [getattr(step, "ops", ())])
        yield from itertools.chain.from_iterable(groups)


def _posterize(image: Image.Image, bits: int, **settings: Any) -> Image.Image:  # noqa: ANN401
    """Keep so many bits a colour, as timm does; none leaves black, where Pillow 13 and later raise."""
    if bits < 1:
        return Image.new(image.mode, image.size)
    return cast(Image.Image, posterize(image, bits, **settings))


def _compose(steps: Sequence[Any], preprocessing: Preprocessing, *, erasing: Sequence[Any] = ()) -> Transform:
    """Return timm's steps on images as one, with our step to a normalised tensor behind them."""
    if preprocessing.channels == 1:
        images = [step for step in steps if not isinstance(step, transforms.ColorJitter)]
        # Of grey images, Pillow can vary the brightness of those with 8 bits alone.
        jitter = [step for step in steps if isinstance(step, transforms.ColorJitter)]
        normalise = transforms.Normalize(preprocessing.mean, preprocessing.std, inplace=True)
        steps = [*images, scale_grey, *jitter, normalise]
    else:
        steps = [*steps, _ToNormalisedTensor(preprocessing)]
    return cast(Transform, transforms.Compose([*steps, *erasing]))


def _whole_image_steps(preprocessing: Preprocessing, crop: Crop) -> list[Any]:
    """Return the steps that resize the whole image and cut a square from it."""
    size = preprocessing.image_size
    resize = transforms.Resize(size, interpolation=str_to_interp_mode(preprocessing.interpolation))
    if crop == "pad":
        return [resize, transforms.RandomCrop(size, padding=max(1, size // _PADDING_PART))]
    if crop == "none":
        return [resize, transforms.CenterCrop(size)]
    raise ValueError(f"crop must be one of {', '.join(get_args(Crop))}; got {crop!r}")
