"""From the text a user writes to the source it names, and the cheap check that it can be opened."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config import S3Config
from pipeline.data.s3 import check_s3
from pipeline.data.sources.base import ImageSource
from pipeline.data.sources.digits import LOCATION as DIGITS_LOCATION
from pipeline.data.sources.digits import DigitsSource
from pipeline.data.sources.folder import FolderSource, check_folder
from pipeline.data.sources.huggingface import HuggingFaceSource, check_hugging_face, is_saved_to_disk
from pipeline.data.sources.parquet import ParquetSource
from pipeline.data.sources.parquet_files import check_parquet
from pipeline.data.sources.shard_files import find_shards, is_pattern
from pipeline.data.sources.staged import StagedSource
from pipeline.data.sources.tar import TarSource, check_tars
from pipeline.errors import RequestError
from pipeline.storage.object_store import is_s3

_KINDS = (
    f"{DIGITS_LOCATION!r}, a folder with one sub-folder a class, .parquet or .tar files (one, a folder of "
    "them, or a pattern such as 'data/train-*.parquet'), or a Hugging Face data set saved to disk, on a path "
    "or at s3://BUCKET/PREFIX"
)

_SHARDS: dict[str, tuple[Callable[[str], ImageSource], Callable[[Sequence[Path]], list[str]]]] = {
    ".parquet": (ParquetSource, check_parquet),
    ".tar": (TarSource, check_tars),
}


def open_source(location: str, s3: S3Config | None = None, fingerprint: str | None = None) -> ImageSource:
    """Return the source at a location; labels and images are read when they are asked for.

    Args:
        location: `builtin:digits`, an image folder, .parquet or .tar files (one, a folder of them, or a
            pattern), or the folder that a Hugging Face data set was saved to; all but the first also as
            `s3://bucket/prefix`, which is copied to this machine.
        s3: How to reach an object store; None for boto3's own defaults.
        fingerprint: State that an object store must show, so that a copy of it need not be compared; None
            takes its objects as they are.

    Raises:
        RequestError: If `check_location` finds a problem, or a tar shard turns out to be broken.
        JobError: If an object store fails or has changed.
    """
    if is_s3(location):
        return StagedSource(resolve_location(location), s3 or S3Config(), fingerprint, open_source)
    if problems := check_location(location):
        raise RequestError(problems)
    location = resolve_location(location)
    if location == DIGITS_LOCATION:
        return DigitsSource()
    if is_saved_to_disk(Path(location)):
        return HuggingFaceSource(location)
    for suffix, (source_type, _) in _SHARDS.items():
        if find_shards(Path(location), suffix):
            return source_type(location)
    return FolderSource(location)


def resolve_location(location: str) -> str:
    """Return a location that means the same in a process with another working folder."""
    if is_s3(location):
        return location.rstrip("/")
    if location.startswith("builtin:") or "://" in location:
        return location
    return str(Path(location).expanduser().absolute())


def check_location(location: str, s3: S3Config | None = None) -> list[str]:
    """Return what keeps a location from being opened, one message a problem; decodes no image.

    Args:
        location: As for `open_source`.
        s3: How to reach an object store; None for boto3's own defaults.
    """
    if not location.strip():
        return [f"a data location must be given, got {location!r}; write {_KINDS}"]
    if is_s3(location):
        return check_s3(location, s3 or S3Config())
    if location.startswith("builtin:") or "://" in location:
        return [] if location == DIGITS_LOCATION else [_unsupported(location)]
    path = Path(resolve_location(location))
    try:
        return _check_path(location, path)
    except PermissionError as err:
        return [f"data must be readable, {str(err.filename)!r} is not ({err.strerror}); grant the access"]


def _check_path(location: str, path: Path) -> list[str]:
    """Return what keeps a path from being opened."""
    if is_saved_to_disk(path):
        return check_hugging_face(path)
    for suffix, (_, check) in _SHARDS.items():
        if files := find_shards(path, suffix):
            return check(files)
    if path.is_dir():
        return check_folder(path)
    return [_unsupported(location) if path.exists() else _missing(location, path)]


def _unsupported(location: str) -> str:
    """Return the message for something that exists but is none of our kinds."""
    if location.startswith("builtin:"):
        hint = f"did you mean {DIGITS_LOCATION!r}?"
    else:
        hint = (
            "copy the data to a local path or to s3://"
            if "://" in location
            else "name the folder or file of images"
        )
    return f"a data location must be {_KINDS}; got {location!r}; {hint}"


def _missing(location: str, path: Path) -> str:
    """Return the message for a path that is not there, with the nearest name beside it."""
    if is_pattern(path):
        return f"a data pattern must match .parquet or .tar files, {location!r} matches none; correct it"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "correct the path"
    return f"a data location must exist, {location!r} does not; {hint}"
