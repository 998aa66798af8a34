"""Finding images that cannot be used, and the rule of the job file for what then happens."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.sources import BYTES_A_PIXEL, Images, ImageSource, UnreadableImageError

BadItems = dict[int, str]
"""Row to the reason why its image cannot be used, the reason opening with its file or row."""

_MAX_LISTED = 10
_ROWS_A_TASK = 64  # chosen: about 5 ms of small images, so that handing out tasks costs nothing


@dataclass(frozen=True)
class BadItemRule:
    """What happens to corrupt images, unknown labels and empty classes.

    Args:
        action: `fail` refuses the data, `skip` goes on without them.
        max_fraction: With `skip`, the largest part of all images, in [0, 1], that may be left out.
    """

    action: Literal["fail", "skip"]
    max_fraction: float

    def problems(self) -> list[str]:
        """Return what is wrong with the rule itself."""
        problems = []
        if self.action not in ("fail", "skip"):
            problems.append(f"bad_items must be 'fail' or 'skip', got {self.action!r}; write 'fail'")
        if not 0 <= self.max_fraction <= 1:
            problems.append(f"max_bad_fraction must be in [0, 1], got {self.max_fraction}; 0.01 is 1 %")
        return problems

    def judge(self, bad: BadItems, num_rows: int, location: str) -> list[str]:
        """Return the problem the bad items of one location are under this rule, or nothing."""
        fraction = len(bad) / num_rows
        if not bad or (self.action == "skip" and fraction <= self.max_fraction):
            return []
        allowed = "none" if self.action == "fail" else f"a fraction of {self.max_fraction:g}"
        enough = math.ceil(fraction * 10_000) / 10_000
        return [
            f"bad_items = {self.action!r} allows {allowed} of the images to be unusable, {len(bad)} of "
            f"{num_rows} in {location!r} are; repair or remove them, or set bad_items to 'skip' with "
            f"max_bad_fraction of at least {enough:g}:\n{list_briefly(list(bad.values()))}"
        ]


def list_briefly(items: Sequence[str]) -> str:
    """Return one indented line an item, at most ten, and how many there are beyond these."""
    lines = [f"  {item}" for item in items[:_MAX_LISTED]]
    if len(items) > _MAX_LISTED:
        lines.append(f"  and {len(items) - _MAX_LISTED} more")
    return "\n".join(lines)


def find_unknown_labels(
    source: ImageSource, labels: npt.NDArray[np.int64], class_names: Sequence[str]
) -> BadItems:
    """Return the rows whose label is null or names none of the classes.

    Args:
        source: Tells the label as it is written.
        labels: Index into `class_names` a row, negative for none; shape (rows,).
        class_names: The classes to be learnt.
    """
    known = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
    return {
        row: f"{source.where(row)}: label {source.raw_label(row)} is none of the classes ({known})"
        for row in np.flatnonzero(labels < 0).tolist()
    }


@dataclass
class Decoded:
    """What decoding images has shown.

    Attributes:
        bad: Rows whose image cannot be decoded.
        num_bytes: Of the pixels of all others.
        is_deep: Whether one of these has more than 8 bits a channel.
    """

    bad: BadItems = field(default_factory=dict)
    num_bytes: int = 0
    is_deep: bool = False

    def add(self, other: "Decoded") -> None:
        """Take in what others of the images have shown."""
        self.bad |= other.bad
        self.num_bytes += other.num_bytes
        self.is_deep |= other.is_deep


def decode_all(
    source: Images, rows: Sequence[int], on_images: Callable[[int], None], channels: int = 3
) -> Decoded:
    """Decode images on every core, and keep none.

    Args:
        source: Holds the images.
        rows: The rows to look at.
        on_images: Told the number of images each time some are done.
        channels: Which the images are read with.
    """
    tasks = [rows[start : start + _ROWS_A_TASK] for start in range(0, len(rows), _ROWS_A_TASK)]
    total = Decoded()
    pool = ThreadPoolExecutor(_num_threads())
    try:
        found = pool.map(lambda task: _decode(source, task, channels), tasks)
        for task, decoded in zip(tasks, found, strict=True):
            total.add(decoded)
            on_images(len(task))
    finally:
        pool.shutdown(cancel_futures=True)
    return total


def _decode(source: Images, rows: Sequence[int], channels: int) -> Decoded:
    """Return what some rows have shown."""
    decoded = Decoded()
    for row in rows:
        try:
            image = source.read(row, channels)
        except UnreadableImageError as err:
            decoded.bad[row] = str(err)
        else:
            decoded.num_bytes += BYTES_A_PIXEL[image.mode] * image.width * image.height
            decoded.is_deep |= image.mode == "F"
    return decoded


def _num_threads() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
