"""Small real images on disk: a folder of PNG files, Parquet files, and ways to break them."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.plan import prepare_data

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "train.parquet"


@pytest.fixture
def cifar10():
    """The location of CIFAR-10's training images; skips where they are not at hand."""
    if not CIFAR10.exists():
        pytest.skip("CIFAR-10 is not in shared/data beside the repository")
    return str(CIFAR10)


@pytest.fixture
def picture():
    """Return a function that makes a coloured image of noise."""

    def make(seed, size=8):
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture
def encoded(picture):
    """Return a function that makes the bytes of an image file."""

    def make(seed, kind="PNG"):
        file = io.BytesIO()
        picture(seed, size=32).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture
def image_folder(tmp_path, picture):
    """Return a function that writes class folders with so many PNG files each."""

    def write(name="images", **counts):
        for label, count in counts.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                picture(number).save(folder / f"{number}.png")
        return tmp_path / name

    return write


@pytest.fixture
def parquet_file(tmp_path, encoded):
    """Return a function that writes labels, each with an image, as Hugging Face does."""

    def write(labels, name="train.parquet", label_type=None, class_names=None, images=None):
        images = images or [encoded(row) for row in range(len(labels))]
        rows = [{"bytes": image, "path": None} for image in images]
        image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(rows, image_type), "label": pa.array(labels, label_type)})
        if class_names:
            features = {"info": {"features": {"label": {"names": class_names, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=4)
        return path

    return write


@pytest.fixture
def prepare():
    """Return `prepare_data` with settings that tests need not repeat."""

    def call(train, validation=None, **settings):
        settings = {
            "validation_fraction": 0.25,
            "seed": 0,
            "bad_items": "fail",
            "max_bad_fraction": 0.0,
        } | settings
        return prepare_data(str(train), None if validation is None else str(validation), **settings)

    return call


@pytest.fixture(scope="session")
def digits_plan():
    """The digits, a quarter of them for validation."""
    return prepare_data(
        "builtin:digits",
        None,
        validation_fraction=0.25,
        seed=0,
        bad_items="fail",
        max_bad_fraction=0.0,
    )
