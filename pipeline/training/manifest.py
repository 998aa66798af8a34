"""The manifest of a checkpoint: what makes a folder a whole checkpoint of one network.

It is written last and names every other file with size and hash. A folder without it, or with files that
differ from it, is no checkpoint: one is there whole or not at all, whatever copied it and was cut off.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import JobError
from pipeline.storage import StoragePath

MANIFEST, FORMAT = "checkpoint.json", 2


class CheckpointError(JobError):
    """A checkpoint that must not be used.

    Args:
        folder: Of the checkpoint.
        file: The file at fault.
        reason: What is wrong with it, such as `is missing`.
    """

    def __init__(self, folder: str, file: str, reason: str) -> None:
        self.folder, self.file, self.reason = folder, file, reason
        super().__init__(folder, file, reason)

    def __str__(self) -> str:
        return (
            f"a checkpoint must be whole and of the network that is trained, {self.folder} is not: "
            f"{self.file} {self.reason}; go on from another one, or train again under another job name"
        )


@contextmanager
def named(folder: StoragePath) -> Iterator[None]:
    """Let refusals of a checkpoint name where it is stored, not where its copy was looked at."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(str(folder), error.file, error.reason) from error


@contextmanager
def at_hand(folder: StoragePath) -> Iterator[Path]:
    """Yield a path on this machine at which a checkpoint can be read until the block ends.

    Raises:
        CheckpointError: If there is no such folder, or what the block raises.
    """
    with named(folder):
        try:
            with folder.as_local() as path:
                yield path
        except FileNotFoundError as error:
            raise CheckpointError(str(folder), MANIFEST, "is missing") from error


@dataclass(frozen=True)
class FileRecord:
    """Size and content of one file."""

    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Read a file."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself.

    Attributes:
        network: Description of the network as plain data.
        epoch: Epochs that are done; the next one starts from here.
        updates: Of the next epoch that are done; 0 at the end of an epoch.
        loss_sum: Of these updates, the mean over all workers.
        files: All other files, by name.
        optimizer: Class, groups and plain state of the optimiser.
        scaler: Plain state of the gradient scaler; None where there is none.
        version: Of the format.
    """

    network: dict[str, Any]
    epoch: int
    files: dict[str, FileRecord]
    optimizer: dict[str, Any]
    scaler: Any = None
    updates: int = 0
    loss_sum: float = 0.0
    version: int = FORMAT

    def save(self, folder: Path) -> None:
        """Write it to a folder that holds all other files."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder and compare every file with it.

        Raises:
            CheckpointError: If the folder is no whole checkpoint of this format.
        """
        manifest = cls._read(folder)
        for name, expected in manifest.files.items():
            _check(folder, name, expected)
        return manifest

    @classmethod
    def _read(cls, folder: Path) -> "Manifest":
        try:
            data = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise CheckpointError(str(folder), MANIFEST, "is missing") from None
        except ValueError as error:
            raise CheckpointError(str(folder), MANIFEST, f"is no JSON ({error})") from error
        version = data.get("version") if isinstance(data, dict) else None
        if version != FORMAT:
            raise CheckpointError(
                str(folder), MANIFEST, f"is of format {version}, this version of Skipline reads {FORMAT}"
            )
        try:
            return cls(**{**data, "files": {key: FileRecord(**row) for key, row in data["files"].items()}})
        except (TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(str(folder), MANIFEST, f"lacks what format 2 holds ({error})") from error


def _check(folder: Path, name: str, expected: FileRecord) -> None:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(str(folder), name, "is missing")
    num_bytes = path.stat().st_size
    if num_bytes != expected.num_bytes:
        raise CheckpointError(
            str(folder), name, f"was cut short or exchanged, {num_bytes} of {expected.num_bytes} bytes"
        )
    if FileRecord.of(path) != expected:
        raise CheckpointError(str(folder), name, "is corrupted, its SHA-256 differs from the one noted")


def differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return in words how two descriptions differ; empty if they do not."""
    keys = [key for key in {**stored, **expected} if stored.get(key) != expected.get(key)]
    return ", ".join(f"{key} {stored.get(key)!r} instead of {expected.get(key)!r}" for key in keys)
