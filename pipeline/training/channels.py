"""How many channels a job's images have: as many as its network's input."""

from statistics import fmean
from typing import Any

import timm
from timm.data import resolve_data_config

from pipeline.config import Job
from pipeline.networks.backbone import input_channels

READABLE = (1, 3)
"""Channels that images can be read with: grey and RGB."""


def channels_of(job: Job) -> int:
    """Return the channels that a job's images are read with."""
    return input_channels(job.backbone.kwargs)


def channel_problems(job: Job) -> list[str]:
    """Return why no images can be made for the channels of a job's network, or of its teacher, if so."""
    channels: Any = channels_of(job)
    if type(channels) is not int or channels not in READABLE:
        return [
            "backbone.kwargs: in_chans must be 3, images are then read as RGB, or 1, they are read as grey; "
            f"got {channels!r}; leave it out, or write in_chans: 1"
        ]
    teacher = job.distillation.teacher
    if teacher is None or input_channels(teacher_kwargs(job)) == channels:
        return []
    return [
        f"distillation.teacher must see the images that the network sees, got in_chans: "
        f"{input_channels(teacher.kwargs)!r} for one with {channels}; leave it out of the teacher's kwargs"
    ]


def teacher_kwargs(job: Job) -> dict[str, Any]:
    """Return the arguments of a job's teacher, which takes the network's channels unless told otherwise."""
    teacher = job.distillation.teacher
    kwargs = {} if teacher is None else teacher.kwargs
    own = {key: value for key, value in job.backbone.kwargs.items() if key == "in_chans"}
    return {**own, **kwargs}


def published_data_config(backbone: str, channels: int) -> dict[str, Any]:
    """Return timm's `mean`, `std`, `interpolation` and `crop_pct` of a model, for images of so many channels.

    Grey images take the mean of the three colours' numbers, as in timm's own loader (`adapt_to_chs`).
    """
    config: dict[str, Any] = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(backbone).to_dict())
    if channels == 1:
        config |= {name: (fmean(config[name]),) for name in ("mean", "std")}
    return config
