"""WebDataset tar shards: files of one stem are one sample, an image with its label in `.cls` or `.json`."""

import os
import tarfile
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from pipeline.data.file_kinds import CLASS_FILE, mixed_parts
from pipeline.data.sources.base import UnreadableImageError, decode_image
from pipeline.data.sources.fingerprints import file_facts, fingerprint_of
from pipeline.data.sources.labels import as_integers, index_labels, raw_label_text
from pipeline.data.sources.shard_files import find_shards
from pipeline.data.sources.tar_index import NO_IMAGE, load_index

_MAX_OPEN_SHARDS = 256  # chosen: a quarter of the usual limit of open files; further ones are opened a read


class TarSource:
    """The samples of one or more tar shards, shards in the order of their names.

    Labels are integers where all of them are, else names. Class names are those of `classes.txt` beside the
    shards, else the distinct labels in sorted order, integers by value. A sample with a class and no image,
    or with two images, is an unreadable one.

    Args:
        location: A .tar file, a folder of them, or a pattern such as `data/train-*.tar`.

    Raises:
        RequestError: If a shard is no uncompressed tar file or holds what is neither file nor folder.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = find_shards(Path(location), ".tar")
        self._class_file = self._files[0].parent / CLASS_FILE
        index = load_index(self._files, self.fingerprint)
        self._raw_labels = as_integers(index["label"].combine_chunks())
        self._names = index["name"]
        self._shards = index["shard"].to_numpy()
        self._offsets = index["offset"].to_numpy()
        self._num_bytes = index["num_bytes"].to_numpy()
        self.class_names, self.labels = index_labels(self._raw_labels, read_class_file(self._class_file))
        self._reader = _ShardReader(self._files)

    def __reduce__(self) -> tuple[type["TarSource"], tuple[str]]:
        return TarSource, (self.location,)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and modification times of the shards and of `classes.txt`."""
        files = [*self._files, *([self._class_file] if self._class_file.exists() else [])]
        return fingerprint_of(file_facts(file, file.name) for file in files)

    def __len__(self) -> int:
        """Return the number of samples of all shards."""
        return len(self.labels)

    def raw_label(self, row: int) -> str:
        """Return the label as it is written: `null`, `7`, `'cat'`."""
        return raw_label_text(self._raw_labels, row)

    def load(self) -> None:
        """Do nothing: every image is read by its offset."""

    def read(self, row: int, channels: int = 3) -> Image.Image:
        """Return the image, decoded as `decode_image` does.

        Raises:
            UnreadableImageError: If the sample has not one image, or it cannot be read or decoded.
        """
        offset, num_bytes = int(self._offsets[row]), int(self._num_bytes[row])
        if offset == NO_IMAGE:
            raise UnreadableImageError(
                f"{self.where(row)}: the sample must have one image, it has none or two"
            )
        try:
            encoded = self._reader.read(int(self._shards[row]), offset, num_bytes)
        except OSError as err:
            raise UnreadableImageError(f"{self.where(row)}: cannot be read ({err.strerror})") from err
        return decode_image(encoded, self.where(row), channels)

    def where(self, row: int) -> str:
        """Return shard and member, such as `train-0003.tar 000012.jpg`."""
        return f"{self._files[self._shards[row]].name} {self._names[row]}"


class _ShardReader:
    """Reads parts of shards by position, which threads and forked processes may do at the same time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def read(self, shard: int, offset: int, num_bytes: int) -> bytes:
        """Return bytes of a shard; raises OSError if it cannot be read."""
        if (descriptor := self._descriptor(shard)) is not None:
            return os.pread(descriptor, num_bytes, offset)
        with self._files[shard].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), num_bytes, offset)

    def _descriptor(self, shard: int) -> int | None:
        """Return the descriptor of a shard that is kept open, None where too many are."""
        with self._lock:
            if shard not in self._open and len(self._open) < _MAX_OPEN_SHARDS:
                self._open[shard] = os.open(self._files[shard], os.O_RDONLY | os.O_CLOEXEC)
            return self._open.get(shard)


def _close_all(descriptors: dict[int, int]) -> None:
    """Close what a reader has left open."""
    for descriptor in descriptors.values():
        os.close(descriptor)


def read_class_file(file: Path) -> tuple[str, ...] | None:
    """Return the lines of `classes.txt`, None where there is no such file."""
    if not file.exists():
        return None
    return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())


def check_tars(files: Sequence[Path]) -> list[str]:
    """Return what keeps files from being tar shards of one data set; reads one header of each.

    Args:
        files: One or more existing files.
    """
    problems = mixed_parts(files)
    for file in files:
        try:
            with tarfile.open(file, "r:") as tar:
                is_empty = tar.next() is None
        except (tarfile.TarError, OSError) as err:
            problems.append(
                f"a tar shard must be a readable, uncompressed tar file, {str(file)!r} is not ({err}); "
                "write it again"
            )
            continue
        if is_empty:
            problems.append(f"a tar shard must hold samples, {str(file)!r} is empty; remove it")
    return problems
