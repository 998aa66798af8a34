"""Where jobs keep what they make: a folder on a disk, or a prefix in an object store."""

from .path import StoragePath

__all__ = ["StoragePath"]
