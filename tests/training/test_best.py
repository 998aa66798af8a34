"""The best checkpoint: by its metric, and only if it is whole."""

import math

import pytest

from pipeline.storage import StoragePath
from pipeline.training.best import best_checkpoint, best_epoch
from pipeline.training.epochs import EpochReport
from pipeline.training.manifest import CheckpointError, FileRecord, Manifest


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a folder with a manifest and one file."""

    def make(name, *, is_whole=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(name.encode())
        files = {"model.safetensors": FileRecord.of(folder / "model.safetensors")}
        Manifest(network={}, epoch=1, files=files, optimizer={}).save(folder)
        if not is_whole:
            (folder / "model.safetensors").write_bytes(b"")
        return StoragePath.local(folder)

    return make


RANKED = pytest.mark.parametrize(
    ("order", "values", "best"),
    [
        ("max", (0.1, 0.3, 0.2), "b"),
        ("min", (0.1, 0.3, 0.2), "a"),
        ("max", (0.3, 0.3, 0.2), "a"),
        ("max", (math.nan, 0.1, math.nan), "b"),
        ("min", (math.nan, math.inf, 5.0), "c"),
    ],
)


@RANKED
def test_the_best_value_wins_and_one_that_is_not_finite_is_the_worst(checkpoint, order, values, best):
    rated = [(checkpoint(name), value) for name, value in zip("abc", values, strict=True)]
    assert best_checkpoint(rated, order=order).name == best


@RANKED
def test_the_best_epoch_is_that_of_the_best_checkpoint(order, values, best):
    history = [EpochReport(number, {"score": value}, 0) for number, value in enumerate(values, start=1)]
    assert "abc"[best_epoch(tuple(history), by="score", order=order).epoch - 1] == best


def test_a_broken_checkpoint_is_never_the_best(checkpoint):
    rated = [(checkpoint("a", is_whole=False), 0.9), (checkpoint("b"), 0.1), (checkpoint("c"), 0.5)]
    assert best_checkpoint(rated, order="max").name == "c"


def test_where_all_are_broken_the_best_one_is_named(checkpoint):
    rated = [(checkpoint("a", is_whole=False), 0.1), (checkpoint("b", is_whole=False), 0.9)]
    with pytest.raises(CheckpointError, match=r"/b is not: model.safetensors was cut short .* 0 of 1 bytes"):
        best_checkpoint(rated, order="max")
