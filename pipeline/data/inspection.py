"""A source seen with the classes to be learnt: which rows can be used, and the laws its classes must meet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data.bad_items import (
    BadItemRule,
    BadItems,
    decode_all,
    find_unknown_labels,
)
from pipeline.data.sources import UNKNOWN_LABEL, ImageSource
from pipeline.data.streaming.scan import ScannedSource

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is known of a source after every label and image was looked at.

    Args:
        source: The images.
        labels: Index into the classes to be learnt a row, or `UNKNOWN_LABEL`; shape (rows,).
        bad: Rows that cannot be used.
        decoded_bytes: Size of all images as pixels.
        is_deep: Whether an image has more than 8 bits a channel.
    """

    source: ImageSource
    labels: IntArray
    bad: BadItems
    decoded_bytes: int
    is_deep: bool

    @property
    def shard_rows(self) -> IntArray:
        """Number of rows of every shard where the source is streamed, else empty; shape (shards,)."""
        if isinstance(self.source, ScannedSource):
            return self.source.shard_rows
        return np.zeros(0, dtype=np.int64)

    @property
    def rows(self) -> IntArray:
        """The rows that can be used, ascending; shape (usable rows,)."""
        is_usable = np.ones(len(self.labels), dtype=bool)
        is_usable[list(self.bad)] = False
        return np.flatnonzero(is_usable).astype(np.int64)

    def count_classes(self, num_classes: int) -> IntArray:
        """Return how many usable images each class has; shape (num_classes,)."""
        return np.bincount(self.labels[self.rows], minlength=num_classes).astype(np.int64)


def inspect_source(
    source: ImageSource, class_names: Sequence[str], on_images: Callable[[int], None], channels: int
) -> Inspection:
    """Return what is usable of a source; decodes every image whose label is known.

    Args:
        source: The images.
        class_names: The classes to be learnt; labels are matched by name.
        on_images: Told the number of images each time some are done.
        channels: Which the images are read with.
    """
    labels = match_labels(source, class_names)
    bad = find_unknown_labels(source, labels, class_names)
    if isinstance(source, ScannedSource):
        on_images(len(source))
        decoded = source.decoded
    else:
        on_images(len(bad))
        rows = np.flatnonzero(labels >= 0).tolist()
        decoded = decode_all(source, rows, on_images, channels)
    bad = dict(sorted((bad | decoded.bad).items()))
    return Inspection(source, labels, bad, decoded.num_bytes, decoded.is_deep)


def match_labels(source: ImageSource, class_names: Sequence[str]) -> IntArray:
    """Return every row's index into `class_names`, `UNKNOWN_LABEL` for a class that is not among them."""
    index = {name: position for position, name in enumerate(class_names)}
    table = [index.get(name, UNKNOWN_LABEL) for name in source.class_names]
    return np.array([*table, UNKNOWN_LABEL], dtype=np.int64)[source.labels]  # label -1 takes the last entry


def classes_to_learn(source: ImageSource, rule: BadItemRule) -> tuple[str, ...]:
    """Return the names of the training classes: all declared ones, with `skip` those that have a label."""
    counts = np.bincount(source.labels[source.labels >= 0], minlength=len(source.class_names))
    return tuple(
        name for name, count in zip(source.class_names, counts, strict=True) if count or rule.action == "fail"
    )


def one_class_problem(source: ImageSource) -> list[str]:
    """Return a message where there is nothing to tell apart."""
    present = np.unique(source.labels[source.labels >= 0])
    if len(present) > 1:
        return []
    seen = f"only {source.class_names[present[0]]!r}" if len(present) else "no known label"
    return [
        f"training data must show at least 2 classes, {source.location!r} has {seen} in {len(source)} "
        "images; name data with more classes"
    ]


def small_class_problems(training: Inspection, class_names: Sequence[str], *, is_split: bool) -> list[str]:
    """Return one message a training class with too few usable images.

    Args:
        training: The training source.
        class_names: The classes to be learnt.
        is_split: Whether validation images are taken from it too.
    """
    skip = ", or set bad_items to 'skip', which leaves classes without images out"
    need = "2 usable images, one to train and one to validate" if is_split else "1 usable image"
    counts = training.count_classes(len(class_names))
    return [
        f"every class needs {need}; class {name!r} of {training.source.location!r} has {count}; add "
        f"images or remove the class{'' if count else skip}"
        for name, count in zip(class_names, counts, strict=True)
        if count < (2 if is_split else 1)
    ]


def classes_not_validated(validation: Inspection, class_names: Sequence[str]) -> list[str]:
    """Return one line a class that has no usable validation image."""
    counts = validation.count_classes(len(class_names))
    return [
        f"class {name!r} has no usable image in the validation data {validation.source.location!r}"
        for name, count in zip(class_names, counts, strict=True)
        if not count
    ]
