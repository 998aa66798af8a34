"""How training images are varied, tried on a tiny one: transforms, every operation of a policy, mixing."""

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp

from pipeline.config import Job
from pipeline.data.transforms import eval_transform, policy_operations, train_transform
from pipeline.recipe import TRIVIAL, AugmentationConfig
from pipeline.training.mixing import BatchMixer
from pipeline.training.plan import describe_preprocessing

from .attempt import failure, in_a_line

NUMBERED = {"rand": ("m", "n", "p", "mstd", "mmax", "inc"), "augmix": ("m", "w", "d", "a", "b", "mstd")}
"""What a section of a policy's name can set, by the policy; others know `mstd` alone."""

OPERATIONS = ("tweights", "t3a", "t3aw")
"""Sections that choose the operations of `rand`."""

NOT_ZERO = ("n", "p", "w", "d", "mmax")
"""What does nothing at 0, or something else."""

WIDTH, HEIGHT, NUM_DRAWS, MAX_SIZE = 40, 28, 4, 256
"""Of what is tried; chosen: not square, a few milliseconds; larger images differ in nothing but time."""

LARGEST_MAGNITUDE = 10
"""timm's bound on what it draws, unless a policy has `mmax`."""

SUSPECTS = ("policy", "color_jitter", "erasing")


def variation_problems(job: Job) -> list[str]:
    """Return what is wrong with how a job's images are varied; its backbone must be a name of timm's."""
    more = job.augmentation
    found = policy_problems(more.policy)
    rest = _with(job, policy=None) if found else job
    error = failure(partial(_prepare, rest))
    if error is not None:
        found += [_explain(rest, error)]
    if more.mixes and (error := failure(partial(_mix, more, job.training.label_smoothing))) is not None:
        found += [
            f"augmentation.mixup and cutmix must mix images, got {more.mixup:g} and {more.cutmix:g} "
            f"({in_a_line(error)}); 0.2 and 1.0 are usual"
        ]
    return found


def policy_problems(policy: str | None) -> list[str]:
    """Return which sections of a policy's name timm would not read, or would read as nothing."""
    if policy is None or policy == TRIVIAL:
        return []
    return [
        f"augmentation.policy: {problem}, got {policy!r}; correct it, or write such as rand-m9-mstd0.5-inc1"
        for problem in _section_problems(policy)
    ]


def _section_problems(policy: str) -> Iterator[str]:
    name, *sections = policy.split("-")
    known, seen = NUMBERED.get(name, ("mstd",)), set[str]()
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d.*)", section)
        if name == "rand" and section in OPERATIONS:
            key = "t"
        elif match and match[1] in known:
            key = match[1]
            if key in NOT_ZERO and not match[2].strip("0."):
                yield f"{key} must be above 0"
        else:
            more = f" and {', '.join(OPERATIONS)}" if name == "rand" else ""
            yield f"{name} takes a number behind each of {', '.join(known)}{more}, not {section!r}"
            continue
        if key in seen:
            yield f"{key} must stand once"
        seen.add(key)


def _explain(job: Job, error: Exception) -> str:
    """Return which setting makes the transform fail: the one without which it does not."""
    more = job.augmentation
    for key in filter(more.is_changed, SUSPECTS):
        if failure(partial(_prepare, _with(job, **{key: type(more).model_fields[key].default}))) is None:
            return (
                f"augmentation.{key} must vary images, got {getattr(more, key)!r} ({in_a_line(error)}); "
                "correct it, or leave it out"
            )
    return (
        f"data.image_size and data.crop must make images for the network, got {job.data.image_size} and "
        f"{job.data.crop} ({in_a_line(error)}); 224 and random_resized are usual"
    )


def _with(job: Job, **values: Any) -> Job:  # noqa: ANN401
    return job.model_copy(update={"augmentation": job.augmentation.model_copy(update=values)})


def _prepare(job: Job) -> None:
    """Make training and evaluation inputs of an image, with every operation of the policy."""
    preprocessing = replace(describe_preprocessing(job), image_size=min(job.data.image_size, MAX_SIZE))
    varied = train_transform(
        preprocessing,
        crop=job.data.crop,
        flip_probability=job.data.flip_probability,
        augmentation=job.augmentation,
    )
    channels = len(preprocessing.mean)
    pixels = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, channels), dtype=np.uint8)
    image = Image.fromarray(pixels.squeeze())
    shape = (channels, preprocessing.image_size, preprocessing.image_size)
    for transform in [varied] * NUM_DRAWS + [eval_transform(preprocessing)]:
        prepared = transform(image)
        if prepared.shape != shape or not prepared.isfinite().all():
            raise ValueError(
                f"finite values of shape {shape} are needed, some are of {tuple(prepared.shape)}"
            )
    for operation in _at_their_ends(policy_operations(varied)):
        operation(image)


def _at_their_ends(operations: Iterable[AugmentOp]) -> Iterator[AugmentOp]:
    """Yield operations that are applied in any case, as weakly, as usually and as strongly as they may be."""
    for operation in operations:
        strongest = operation.magnitude_max or LARGEST_MAGNITUDE
        ends = (0, strongest) if operation.magnitude_std else ()
        for magnitude in (operation.magnitude, *ends):
            always = copy.copy(operation)
            always.prob, always.magnitude, always.magnitude_std = 1.0, magnitude, 0
            yield always


def _mix(augmentation: AugmentationConfig, label_smoothing: float) -> None:
    """Mix a batch of tiny images several times."""
    mixer = BatchMixer(augmentation, num_classes=2, label_smoothing=label_smoothing, seed=0)
    for draw in range(NUM_DRAWS):
        images, shares_BC = mixer(torch.rand(2, 3, HEIGHT, WIDTH), torch.tensor([0, 1]), draw=draw)
        if not (images.isfinite().all() and shares_BC.isfinite().all()):
            raise ValueError("values must be finite, some are not")
