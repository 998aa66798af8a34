"""Where images come from: scikit-learn's digits, image folders, Parquet files; one file a kind."""

from pipeline.data.sources.base import UNKNOWN_LABEL, ImageSource, UnreadableImageError
from pipeline.data.sources.locations import check_location, open_source, resolve_location

__all__ = [
    "UNKNOWN_LABEL",
    "ImageSource",
    "UnreadableImageError",
    "check_location",
    "open_source",
    "resolve_location",
]
