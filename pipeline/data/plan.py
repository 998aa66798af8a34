"""From locations to a checked `DataPlan`; the first thing a job does, before anything costly starts."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from pipeline.config import S3Config
from pipeline.data import stratified
from pipeline.data.bad_items import BadItemRule
from pipeline.data.data_plan import DataPlan
from pipeline.data.inspection import (
    Inspection,
    classes_not_validated,
    classes_to_learn,
    inspect_source,
    one_class_problem,
    small_class_problems,
)
from pipeline.data.sources import ImageSource, check_location, open_source, resolve_location
from pipeline.data.streaming.scan import ScannedSource
from pipeline.data.streaming.shards import find_sharded
from pipeline.errors import RequestError
from pipeline.storage.object_store import is_s3

__all__ = ["DataPlan", "check_location", "prepare_data"]

Progress = Callable[[int, int], None]
"""Told the number of images done and the number of all."""

_log = logging.getLogger(__name__)


def prepare_data(
    train: str,
    validation: str | None,
    *,
    validation_fraction: float,
    seed: int,
    bad_items: Literal["fail", "skip"],
    max_bad_fraction: float,
    s3: S3Config | None = None,
    cache_limit_gib: float = 200.0,
    channels: int = 3,
    on_progress: Progress | None = None,
) -> DataPlan:
    """Return which images train and which validate, after every one of them was decoded once.

    The same files and settings give the same plan, wherever it is made.

    Args:
        train: Location of the training images.
        validation: Location of the validation images; None splits them from the training images.
        validation_fraction: Part of each class that validates, in (0, 1); used only without `validation`.
        seed: Chooses the split.
        bad_items: Whether corrupt images, unknown labels and empty classes `fail` the request or are
            `skip`ped.
        max_bad_fraction: With `skip`, the largest part of a location's images that may be left out, in [0,
            1].
        s3: How to reach the store of s3:// locations; None for boto3's own defaults.
        cache_limit_gib: Shards that are larger together, as they are stored, are streamed.
        channels: Which images are read with: 3 for RGB, 1 for grey.
        on_progress: Called in this thread as images are done.

    Raises:
        RequestError: If the data cannot be used; lists all problems, bad images and labels by file or row.
        JobError: If an object store fails while its images are copied to this machine.
    """
    rule = BadItemRule(bad_items, max_bad_fraction)
    locations = [train] if validation is None else [train, validation]
    _raise_if_any(
        [
            *rule.problems(),
            *_request_problems(train, validation, validation_fraction),
            *(problem for location in locations for problem in check_location(location, s3)),
        ]
    )
    limit_bytes = int(cache_limit_gib * 2**30)
    sources = [_open(location, s3 or S3Config(), limit_bytes, channels) for location in locations]
    _raise_if_any(one_class_problem(sources[0]))
    class_names = classes_to_learn(sources[0], rule)
    inspections = _inspect(sources, class_names, on_progress or _silent, channels)
    _raise_if_any(_content_problems(inspections, class_names, rule))
    if validation is None:
        plan = _split_plan(inspections[0], class_names, validation_fraction=validation_fraction, seed=seed)
    else:
        plan = _given_plan(inspections[0], inspections[1], class_names)
    plan = replace(plan, channels=channels, is_deep=inspections[0].is_deep)
    if any(map(is_s3, locations)):
        plan = replace(plan, s3=s3 or S3Config())
    _log_plan(plan)
    return plan


def inspect_location(
    location: str,
    class_names: Sequence[str],
    *,
    channels: int = 3,
    s3: S3Config | None = None,
    on_progress: Progress | None = None,
) -> Inspection:
    """Return which images of a location a network of these classes can be asked about; decodes all of them.

    Args:
        location: Of images with labels.
        class_names: What the network tells apart; labels are matched by name.
        channels: Which images are read with.
        s3: How to reach the store of an s3:// location; None for boto3's own defaults.
        on_progress: Called in this thread as images are done.

    Raises:
        RequestError: If there is no such location, or none of its images can be used.
        JobError: If an object store fails while its images are copied to this machine.
    """
    _raise_if_any(check_location(location, s3))
    (inspection,) = _inspect([open_source(location, s3)], class_names, on_progress or _silent, channels)
    if not len(inspection.rows):
        raise RequestError(
            f"data must show classes that the network knows ({', '.join(class_names[:5])}...), "
            f"{location!r} has no usable image of one; {next(iter(inspection.bad.values()), 'it is empty')}"
        )
    return inspection


def _open(location: str, s3: S3Config, limit_bytes: int, channels: int) -> ImageSource:
    """Return the source at a location; shards beyond the limit are looked through now, and streamed later."""
    shards = find_sharded(location, s3)
    if shards is not None and shards.size_bytes > limit_bytes:
        return ScannedSource(shards, channels)
    return open_source(location, s3)


def _silent(done: int, total: int) -> None:
    """Report no progress."""


def _raise_if_any(problems: Sequence[str]) -> None:
    """Raise all problems together, if there are any."""
    if problems:
        raise RequestError(problems)


def _request_problems(train: str, validation: str | None, validation_fraction: float) -> list[str]:
    """Return what is wrong with the request itself, whatever the data."""
    if validation is None:
        if 0 < validation_fraction < 1:
            return []
        return [
            f"validation_fraction must be in (0, 1), got {validation_fraction}; 0.1 is usual, or name a "
            "validation location"
        ]
    if resolve_location(train) == resolve_location(validation):
        return [
            f"validation images must be others than training images, both locations are {train!r}; name "
            "another, or leave the validation location out to split by validation_fraction"
        ]
    return []


def _inspect(
    sources: Sequence[ImageSource], class_names: Sequence[str], on_progress: Progress, channels: int
) -> list[Inspection]:
    """Return one inspection a source, with the progress counted over all of them."""
    total = sum(map(len, sources))
    done = 0

    def count(num_images: int) -> None:
        nonlocal done
        done += num_images
        on_progress(done, total)

    return [inspect_source(source, class_names, count, channels) for source in sources]


def _content_problems(
    inspections: Sequence[Inspection], class_names: Sequence[str], rule: BadItemRule
) -> list[str]:
    """Return everything that labels and images have shown to be wrong under the rule."""
    problems = [
        problem
        for inspection in inspections
        for problem in rule.judge(inspection.bad, len(inspection.labels), inspection.source.location)
    ]
    problems += small_class_problems(inspections[0], class_names, is_split=len(inspections) == 1)
    if rule.action == "fail":
        way_out = "; every class needs one: add images, or set bad_items to 'skip' to go on without"
        problems += [
            line + way_out for part in inspections[1:] for line in classes_not_validated(part, class_names)
        ]
    return problems


def _split_plan(
    inspection: Inspection, class_names: tuple[str, ...], *, validation_fraction: float, seed: int
) -> DataPlan:
    """Return the plan that takes validation images from the training location."""
    rows, source = inspection.rows, inspection.source
    labels = inspection.labels[rows]
    counts = inspection.count_classes(len(class_names))
    try:
        train, validation = stratified.split(labels, validation_fraction=validation_fraction, seed=seed)
        is_whole = all(len(np.unique(labels[part])) == len(class_names) for part in (train, validation))
    except ValueError:  # fewer images on one side than there are classes
        is_whole = False
    if not is_whole:
        raise RequestError(_split_problem(source.location, class_names, counts.tolist(), validation_fraction))
    return DataPlan(
        train_location=source.location,
        validation_location=None,
        class_names=class_names,
        train_rows=rows[train],
        train_labels=labels[train],
        validation_rows=rows[validation],
        validation_labels=labels[validation],
        train_fingerprint=source.fingerprint,
        validation_fingerprint=None,
        train_decoded_bytes=inspection.decoded_bytes,
        train_shard_rows=inspection.shard_rows,
        skipped=(*inspection.bad.values(), *_left_out(source, class_names)),
    )


def _split_problem(
    location: str, class_names: Sequence[str], counts: Sequence[int], validation_fraction: float
) -> str:
    """Return the message for a fraction at which the rarest class misses one side, with one that works."""
    rarest = min(range(len(counts)), key=lambda label: counts[label])
    lowest = math.ceil(10_000 / counts[rarest]) / 10_000
    return (
        "validation_fraction must leave every class a training and a validation image; "
        f"{validation_fraction:g} of {location!r} does not (its rarest class {class_names[rarest]!r} has "
        f"{counts[rarest]} images); write a fraction from {lowest:g} to {1 - lowest:g}, add images, or "
        "name a validation location"
    )


def _given_plan(training: Inspection, validation: Inspection, class_names: tuple[str, ...]) -> DataPlan:
    """Return the plan in which each location serves its own purpose."""
    return DataPlan(
        train_location=training.source.location,
        validation_location=validation.source.location,
        class_names=class_names,
        train_rows=training.rows,
        train_labels=training.labels[training.rows],
        validation_rows=validation.rows,
        validation_labels=validation.labels[validation.rows],
        train_fingerprint=training.source.fingerprint,
        validation_fingerprint=validation.source.fingerprint,
        train_decoded_bytes=training.decoded_bytes,
        validation_decoded_bytes=validation.decoded_bytes,
        train_shard_rows=training.shard_rows,
        validation_shard_rows=validation.shard_rows,
        skipped=(
            *training.bad.values(),
            *validation.bad.values(),
            *_left_out(training.source, class_names),
            *classes_not_validated(validation, class_names),
        ),
    )


def _left_out(source: ImageSource, class_names: Sequence[str]) -> list[str]:
    """Return one line a declared class that is not learnt because it has no image."""
    left_out = [name for name in source.class_names if name not in set(class_names)]
    return [f"class {name!r} of {source.location!r} has no image" for name in left_out]


def _log_plan(plan: DataPlan) -> None:
    """Log the size of the plan and what was skipped."""
    _log.info(
        "data: %d training and %d validation images, %d classes, %d items skipped",
        *(len(plan.train_rows), len(plan.validation_rows), plan.num_classes, len(plan.skipped)),
    )
