"""One line of text for the state of a source's files.

A fingerprint has two parts, `LAYOUT-TIMES`. Names and sizes make the layout, which copies on other machines
share. Modification times differ between copies: they tell whether anything was changed here, not whether it
is the same data.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class FileFacts(NamedTuple):
    """What is known of a file without opening it."""

    name: str
    size_bytes: int
    modified_ns: int


def file_facts(path: Path, name: str) -> FileFacts:
    """Return the facts of the file at `path`, told apart from others by `name`; a lost file has size -1."""
    try:
        status = path.stat()
    except OSError:
        return FileFacts(name, -1, -1)
    return FileFacts(name, status.st_size, status.st_mtime_ns)


def fingerprint_of(files: Iterable[FileFacts]) -> str:
    """Return the fingerprint of files in their given order."""
    layout, times = hashlib.sha256(), hashlib.sha256()
    for name, size_bytes, modified_ns in files:
        layout.update(f"{name}\0{size_bytes}\0".encode(errors="surrogateescape"))
        times.update(f"{modified_ns}\0".encode())
    return f"{layout.hexdigest()[:16]}-{times.hexdigest()[:16]}"


def has_same_layout(first: str, second: str) -> bool:
    """Return whether two fingerprints stand for files of the same names and sizes."""
    return first.partition("-")[0] == second.partition("-")[0]
