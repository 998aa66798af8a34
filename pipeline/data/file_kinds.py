"""Which files are images or hold them, by name alone: one rule for local folders and object stores."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""Source: torchvision.datasets.folder.IMG_EXTENSIONS, a superset of timm's."""

SHARD_SUFFIXES = (".parquet", ".tar")
"""Files that hold many images each."""

CLASS_FILE = "classes.txt"
"""Beside tar shards: one class name a line, the first for label 0."""

SAVED_STATE, SAVED_INFO, SAVED_SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
"""Files of a Hugging Face data set as `save_to_disk` leaves them."""
