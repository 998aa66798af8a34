"""Where images come from: digits, image folders, Parquet and tar files, saved data sets; one file a kind."""

from pipeline.data.sources.base import BYTES_A_PIXEL, UNKNOWN_LABEL, Images, ImageSource, UnreadableImageError
from pipeline.data.sources.locations import check_location, open_source, resolve_location

__all__ = [
    "BYTES_A_PIXEL",
    "UNKNOWN_LABEL",
    "ImageSource",
    "Images",
    "UnreadableImageError",
    "check_location",
    "open_source",
    "resolve_location",
]
