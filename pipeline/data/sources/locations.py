"""From the text a user writes to the source it names, and the cheap check that it can be opened."""

import difflib
from pathlib import Path

from pipeline.data.sources.base import ImageSource
from pipeline.data.sources.digits import LOCATION as DIGITS_LOCATION
from pipeline.data.sources.digits import DigitsSource
from pipeline.data.sources.folder import FolderSource, check_folder
from pipeline.data.sources.parquet import ParquetSource
from pipeline.data.sources.parquet_files import check_parquet, find_parquet_files, is_pattern
from pipeline.errors import RequestError

_KINDS = (
    f"{DIGITS_LOCATION!r}, a folder with one sub-folder a class, a .parquet file, a folder of .parquet files "
    "or a pattern such as 'data/train-*.parquet'"
)


def open_source(location: str) -> ImageSource:
    """Return the source at a location; labels are read now, images when they are asked for.

    Args:
        location: `builtin:digits`, an image folder, a .parquet file, a folder of them, or a pattern for them.

    Raises:
        RequestError: If `check_location` finds a problem.
    """
    if problems := check_location(location):
        raise RequestError(problems)
    location = resolve_location(location)
    if location == DIGITS_LOCATION:
        return DigitsSource()
    return ParquetSource(location) if find_parquet_files(Path(location)) else FolderSource(location)


def resolve_location(location: str) -> str:
    """Return a location that means the same in a process with another working folder."""
    if location.startswith("builtin:") or "://" in location:
        return location
    return str(Path(location).expanduser().absolute())


def check_location(location: str) -> list[str]:
    """Return what keeps a location from being opened, one message a problem; decodes no image.

    Args:
        location: As for `open_source`.
    """
    if not location.strip():
        return [f"a data location must be given, got {location!r}; write {_KINDS}"]
    if location.startswith("builtin:") or "://" in location:
        return [] if location == DIGITS_LOCATION else [_unsupported(location)]
    path = Path(resolve_location(location))
    try:
        files = find_parquet_files(path)
        if files:
            return check_parquet(files)
        if path.is_dir():
            return check_folder(path)
        return [_unsupported(location) if path.exists() else _missing(location, path)]
    except PermissionError as err:
        return [f"data must be readable, {str(err.filename)!r} is not ({err.strerror}); grant the access"]


def _unsupported(location: str) -> str:
    """Return the message for something that exists but is none of our kinds."""
    if location.startswith("builtin:"):
        hint = f"did you mean {DIGITS_LOCATION!r}?"
    else:
        hint = "copy the data to a local path" if "://" in location else "name the folder or .parquet file"
    return f"a data location must be {_KINDS}; got {location!r}; {hint}"


def _missing(location: str, path: Path) -> str:
    """Return the message for a path that is not there, with the nearest name beside it."""
    if is_pattern(path):
        return f"a data pattern must match .parquet files, {location!r} matches none; correct it"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "correct the path"
    return f"a data location must exist, {location!r} does not; {hint}"
