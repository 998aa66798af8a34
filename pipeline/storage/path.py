"""A file or folder that every machine of a job reaches, on a disk or in an object store."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, PyFileSystem, copy_files

from pipeline.config import S3Config
from pipeline.errors import JobError

from .object_store import SCHEME, S3Location, is_s3
from .s3_files import S3Files


@dataclass(frozen=True, eq=False)
class StoragePath:
    """A place in storage; travels by pickle, without credentials.

    A file is written whole or not at all: a reader or a crash sees the old content or the new one. What takes
    long with files takes a local path from `as_local` or `writing`.

    Args:
        filesystem: Where it is.
        path: Absolute on a disk, BUCKET/KEY in an object store.
    """

    filesystem: FileSystem
    path: str

    @classmethod
    def parse(cls, location: str, s3: S3Config) -> Self:
        """Return the place that a folder's path or `s3://BUCKET/PREFIX` names.

        Raises:
            ValueError: If an S3 location is not written so.
        """
        if not is_s3(location):
            return cls.local(Path(location))
        place = S3Location.parse(location)
        return cls(PyFileSystem(S3Files(s3)), str(place).removeprefix(SCHEME))

    @classmethod
    def local(cls, path: Path) -> Self:
        """Return a place on this machine's file systems."""
        return cls(LocalFileSystem(), str(path.expanduser().absolute()))

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of the machine."""
        return isinstance(self.filesystem, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.path).name

    @property
    def local_path(self) -> Path:
        """The path on this machine; raises ValueError for a place in an object store."""
        if not self.is_local:
            raise ValueError(f"a local path must be on a disk, got {self}; fetch it with as_local")
        return Path(self.path)

    @property
    def uri(self) -> str:
        """The place as `file://` or `s3://`."""
        return self.local_path.as_uri() if self.is_local else f"{SCHEME}{self.path}"

    def __str__(self) -> str:
        return self.path if self.is_local else f"{SCHEME}{self.path}"

    def __truediv__(self, name: str) -> "StoragePath":
        return StoragePath(self.filesystem, f"{self.path}/{name}")

    def exists(self) -> bool:
        """Return whether a file or folder is there."""
        return bool(self.filesystem.get_file_info(self.path).type != FileType.NotFound)

    def children(self) -> list["StoragePath"]:
        """Return the files and folders in a folder, by name; none where there is no such folder."""
        selector = FileSelector(self.path, allow_not_found=True)
        return sorted(
            (self / info.base_name for info in self.filesystem.get_file_info(selector)),
            key=lambda child: child.path,
        )

    def read_bytes(self) -> bytes:
        """Return the content of a file; raises FileNotFoundError if there is none."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def read_text(self) -> str:
        """Return the content of a file in UTF-8; raises FileNotFoundError if there is none."""
        return self.read_bytes().decode()

    def write_text(self, text: str) -> None:
        """Write a file in UTF-8; the folder of one on a disk is made."""
        content = text.encode()
        with self.writing() as path:
            path.write_bytes(content)

    def make_folder(self) -> None:
        """Make a folder, and those above it; nothing happens where it is there."""
        self.filesystem.create_dir(self.path, recursive=True)

    def num_bytes(self) -> int:
        """Return the size of a file, or of all files in a folder; 0 where there is none."""
        info = self.filesystem.get_file_info(self.path)
        if info.type != FileType.Directory:
            return int(info.size or 0)
        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        return sum(int(part.size or 0) for part in self.filesystem.get_file_info(selector))

    def delete(self) -> None:
        """Delete a file, or a folder with all that is in it; nothing happens where there is none.

        Another process may still be writing in a folder on a disk: what that leaves stays.
        """
        kind = self.filesystem.get_file_info(self.path).type
        if kind == FileType.File:
            self.filesystem.delete_file(self.path)
        elif kind == FileType.Directory and self.is_local:
            shutil.rmtree(self.path, ignore_errors=True)
        elif kind == FileType.Directory:
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def as_local(self) -> Iterator[Path]:
        """Yield a path on this machine at which the file or folder can be read until the block ends.

        Raises:
            FileNotFoundError: If there is none.
        """
        if self.is_local:
            if not self.exists():
                raise FileNotFoundError(f"there is no file {self}")
            yield self.local_path
            return
        with tempfile.TemporaryDirectory(prefix="skipline-") as folder:
            copy = Path(folder) / self.name
            if self.filesystem.get_file_info(self.path).type == FileType.Directory:
                copy.mkdir()
            copy_files(self.path, str(copy), source_filesystem=self.filesystem)
            yield copy

    def copy_from(self, folder: Path) -> None:
        """Copy all files below a folder of this machine into this one; what is there stays or is replaced."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            (self / file.relative_to(folder).as_posix())._upload(file)

    def _upload(self, file: Path) -> None:
        """Copy a file of this machine here.

        Not by pyarrow's `copy_files`, which ends well where the end of an upload fails (pyarrow 25).
        """
        if self.is_local:
            with needing_room(self.local_path):
                self.local_path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, self.path)
            return
        files: S3Files = self.filesystem.handler
        files.upload(file, self.path)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield a path on this machine at which to write a file, which is there once the block has ended.

        Nothing changes where the block raises. The folder of a file on a disk is made.
        """
        if self.is_local:
            with needing_room(self.local_path), _beside(self.local_path) as partial:
                yield partial
                return
        with tempfile.TemporaryDirectory(prefix="skipline-") as folder:
            new = Path(folder) / self.name
            yield new
            self._upload(new)


@contextmanager
def needing_room(path: Path) -> Iterator[None]:
    """Turn a full disk that the block meets into a JobError.

    Args:
        path: What is written there.
    """
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise JobError(
            f"a disk must have room for what a job keeps, there is none for {str(path)!r} ({err.strerror}); "
            "free some and give the same command again"
        ) from err


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path beside a file, which takes its place when the block has ended, and is on the disk then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
