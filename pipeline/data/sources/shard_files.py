"""Which files a location means where few large files hold many images: one, a folder, or a pattern."""

from pathlib import Path


def find_shards(path: Path, suffix: str) -> list[Path]:
    """Return the file itself, those directly in a folder, or those a pattern matches; sorted by name.

    Args:
        path: A file, a folder, or a path whose last part is a pattern such as `train-*.parquet`.
        suffix: What the names of the files end with, such as `.parquet`.
    """
    if path.is_dir():
        found = path.glob(f"*{suffix}")
    elif is_pattern(path):
        found = path.parent.glob(path.name)
    else:
        return [path] if path.suffix == suffix and path.exists() else []
    return sorted(file for file in found if file.suffix == suffix and not file.name.startswith("."))


def is_pattern(path: Path) -> bool:
    """Return whether the last part of a path stands for several files."""
    return not path.exists() and any(letter in path.name for letter in "*?[")
