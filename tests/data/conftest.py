"""Small real images on disk: a folder of PNG files, Parquet files, and ways to break them."""

import io
import json
import tarfile
from itertools import chain
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


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("SKIPLINE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tar_file(tmp_path):
    """Return a function that writes a tar shard from member names and their bytes, in this order."""

    def write(members, name="train-000.tar"):
        path = tmp_path / "shards" / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def tar_samples(tar_file, encoded):
    """Return a function that writes a tar shard with an image and a `.cls` for every label."""

    def write(labels, name="train-000.tar"):
        pairs = [
            ((f"{row:06}.jpg", encoded(row, "JPEG")), (f"{row:06}.cls", str(label).encode()))
            for row, label in enumerate(labels)
        ]
        return tar_file(dict(chain.from_iterable(pairs)), name)

    return write


@pytest.fixture
def saved_to_disk(tmp_path, encoded):
    """Return a function that writes a folder as Hugging Face's `save_to_disk` does, with so many files."""

    def write(labels, name="saved/train", class_names=("ant", "bee"), num_files=1, image_column="image"):
        root = tmp_path / name
        root.mkdir(parents=True)
        image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        names = [f"data-{number:05}-of-{num_files:05}.arrow" for number in range(num_files)]
        for number, file in enumerate(names):
            rows = range(len(labels))[number::num_files]
            images = pa.array([{"bytes": encoded(row), "path": None} for row in rows], image_type)
            table = pa.table(
                {image_column: images, "label": pa.array([labels[row] for row in rows], pa.int64())}
            )
            with pa.ipc.new_stream(root / file, table.schema) as writer:
                writer.write_table(table)
        features = {image_column: {"_type": "Image"}, "label": {"names": class_names, "_type": "ClassLabel"}}
        (root / "dataset_info.json").write_text(json.dumps({"features": features}))
        state = {"_data_files": [{"filename": file} for file in names], "_split": None}
        (root / "state.json").write_text(json.dumps(state))
        return root

    return write
