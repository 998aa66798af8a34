"""What a submitted job takes along: a folder's files but for what `.gitignore` and `.rayignore` leave out."""

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from pipeline.errors import RequestError

IGNORE_FILES = (".gitignore", ".rayignore")

ALWAYS_LEFT_OUT = GitIgnoreSpec.from_lines([".git/", "__pycache__/", ".venv/"])

_NUM_NAMED = 5
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive, which Ray then uploads once


@dataclass(frozen=True)
class File:
    """A file to send.

    Attributes:
        path: Below the folder.
        num_bytes: Its size.
    """

    path: Path
    num_bytes: int


@dataclass(frozen=True)
class Package:
    """The files of a folder that a job takes along.

    Attributes:
        folder: Where they are.
        files: In the order of their paths.
    """

    folder: Path
    files: tuple[File, ...]

    @classmethod
    def of(cls, folder: Path) -> "Package":
        """List the files of a folder; symbolic links to files are followed, those to folders are not."""
        found = sorted(_files(folder, folder, ()), key=lambda file: file.path)
        return cls(folder, tuple(found))

    @property
    def num_bytes(self) -> int:
        """Their size, before they are compressed."""
        return sum(file.num_bytes for file in self.files)

    def largest(self) -> tuple[File, ...]:
        """Return the few largest files."""
        return tuple(sorted(self.files, key=lambda file: -file.num_bytes)[:_NUM_NAMED])

    def contains(self, path: Path) -> bool:
        """Return whether a file, or one below a folder, is sent."""
        place = (self.folder / path).resolve()
        if not place.is_relative_to(self.folder.resolve()):
            return False
        below = place.relative_to(self.folder.resolve())
        return any(file.path.is_relative_to(below) for file in self.files)

    def require_small(self, max_bytes: int) -> None:
        """Raise RequestError if there is more than a job may take along, naming the largest files."""
        if self.num_bytes <= max_bytes:
            return
        named = ", ".join(f"{file.path} ({in_mib(file.num_bytes)})" for file in self.largest())
        raise RequestError(
            f"a job takes along at most {in_mib(max_bytes)}, {self.folder} has {in_mib(self.num_bytes)} in "
            f"{len(self.files)} files, the largest are {named}; name what is not needed in .gitignore or "
            ".rayignore, keep data where the cluster reads it (s3:// or a shared folder), submit from "
            "another folder (--folder), or raise --max-upload-mib"
        )

    def write(self, archive: Path) -> None:
        """Write the files as a zip archive."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for file in self.files:
                source = self.folder / file.path
                entry = zipfile.ZipInfo(file.path.as_posix(), _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (source.stat().st_mode & 0o755) << 16
                with source.open("rb") as content, target.open(entry, "w", force_zip64=True) as copy:
                    shutil.copyfileobj(content, copy)


def in_mib(num_bytes: int) -> str:
    """Return a size as text."""
    return f"{num_bytes / 2**20:.1f} MiB"


def _files(folder: Path, top: Path, specs: tuple[tuple[Path, GitIgnoreSpec], ...]) -> Iterator[File]:
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            specs = (*specs, (folder, GitIgnoreSpec.from_lines((folder / name).read_text().splitlines())))
    for path in folder.iterdir():
        is_folder = path.is_dir() and not path.is_symlink()
        if _is_left_out(path, is_folder=is_folder, specs=((top, ALWAYS_LEFT_OUT), *specs)):
            continue
        if is_folder:
            yield from _files(path, top, specs)
        elif path.is_file():
            yield File(path.relative_to(top), path.stat().st_size)


def _is_left_out(path: Path, *, is_folder: bool, specs: tuple[tuple[Path, GitIgnoreSpec], ...]) -> bool:
    """Return what the last file with a pattern for a path says, as git does."""
    verdict = False
    for where, spec in specs:
        text = path.relative_to(where).as_posix() + ("/" if is_folder else "")
        said = spec.check_file(text).include
        verdict = verdict if said is None else said
    return verdict
