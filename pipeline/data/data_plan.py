"""The fixed answer to "which images train, which validate": found once, stored, read by every worker."""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from pipeline.config import S3Config
from pipeline.data import stratified

IntArray = npt.NDArray[np.int64]

_FORMAT = "skipline data plan 2"
_ARRAYS = (
    "train_rows",
    "train_labels",
    "validation_rows",
    "validation_labels",
    "train_shard_rows",
    "validation_shard_rows",
)


def _no_shards() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class DataPlan:
    """Rows and labels of the training and validation images; holds no image, the same for every worker.

    Two plans are the same where their `fingerprint` is.

    Args:
        train_location: Where the training images are, absolute.
        validation_location: Where the validation images are; None if they were split from the training
            location.
        class_names: Name of every class, by label.
        train_rows: Rows of the training source, ascending; shape (training images,).
        train_labels: Their labels, an index into `class_names`.
        validation_rows: Rows of the validation source, ascending; shape (validation images,).
        validation_labels: Their labels.
        train_fingerprint: State of the training files when they were checked.
        validation_fingerprint: State of the validation files; None if split from the training location.
        train_decoded_bytes: Size of all images of the training location as pixels.
        validation_decoded_bytes: Likewise of the validation location; 0 if split from the training location.
        train_shard_rows: Number of rows of every shard of the training location where it is streamed, else
            empty; shape (shards,).
        validation_shard_rows: Likewise of the validation location.
        channels: Which images are read with: 3 for RGB, 1 for grey.
        is_deep: Whether a training image has more than 8 bits a channel.
        s3: How every worker reaches the store of s3:// locations; None without such locations.
        skipped: One line an item left out by the rule for bad items, opening with its file or row.
    """

    train_location: str
    validation_location: str | None
    class_names: tuple[str, ...]
    train_rows: IntArray
    train_labels: IntArray
    validation_rows: IntArray
    validation_labels: IntArray
    train_fingerprint: str
    validation_fingerprint: str | None
    train_decoded_bytes: int = 0
    validation_decoded_bytes: int = 0
    train_shard_rows: IntArray = field(default_factory=_no_shards)
    validation_shard_rows: IntArray = field(default_factory=_no_shards)
    channels: int = 3
    is_deep: bool = False
    s3: S3Config | None = None
    skipped: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """Changes with the files, the classes, the split, and the part of it that `take` kept."""
        # How a store is reached says nothing of what it holds.
        digest = hashlib.sha256(replace(self, s3=None)._header().encode())
        for name in _ARRAYS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()[:32]

    def take(self, fraction: float, *, seed: int) -> Self:
        """Return a plan with a part of the training and of the validation images of every class.

        Args:
            fraction: Part of every class to keep, in (0, 1]; at least one image of each stays.
            seed: Chooses among the images of a class.

        Raises:
            ValueError: If `fraction` is out of its range.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {fraction}; 1 keeps every image")
        train = stratified.choose(self.train_labels, fraction=fraction, seed=seed)
        validation = stratified.choose(self.validation_labels, fraction=fraction, seed=seed)
        return replace(
            self,
            train_rows=self.train_rows[train],
            train_labels=self.train_labels[train],
            validation_rows=self.validation_rows[validation],
            validation_labels=self.validation_labels[validation],
        )

    def save(self, path: str | Path) -> None:
        """Write the plan to one file, whole or not at all; it holds no pickle.

        Args:
            path: The file, by custom `.npz`; replaced if there. Its folder is made.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = np.frombuffer(self._header().encode(), dtype=np.uint8)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            try:
                np.savez_compressed(part, header=header, **{name: getattr(self, name) for name in _ARRAYS})
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the plan that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not a plan of this version.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                header = json.loads(stored["header"].tobytes())
                arrays = {name: stored[name] for name in _ARRAYS}
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, EOFError, OSError, BadZipFile) as err:
            raise ValueError(
                f"a data plan must be a file that Skipline wrote, {str(path)!r} is not ({err}); prepare "
                "the data again"
            ) from err
        if header.pop("format") != _FORMAT:
            raise ValueError(
                f"a data plan must be of this version, {str(path)!r} is not; prepare the data again"
            )
        header |= {name: tuple(header[name]) for name in ("class_names", "skipped")}
        header["s3"] = None if header["s3"] is None else S3Config.model_validate(header["s3"])
        return cls(**header, **arrays)

    def _header(self) -> str:
        """Return everything but the arrays as JSON."""
        values: dict[str, Any] = {
            entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in _ARRAYS
        }
        values["s3"] = None if self.s3 is None else self.s3.model_dump()
        return json.dumps({"format": _FORMAT, **values}, sort_keys=True)
