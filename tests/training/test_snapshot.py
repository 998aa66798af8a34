"""A run starts again whatever a kill has left of Ray's list of checkpoints."""

import json

import pytest
from ray.train import Checkpoint

from pipeline.storage import StoragePath
from pipeline.training.snapshot import COPY, SNAPSHOT, SnapshotCallback, mend_snapshot


@pytest.fixture
def run(tmp_path):
    """A run with two registered checkpoints."""
    rows = [{"checkpoint_dir_name": f"checkpoint_000{epoch}"} for epoch in (1, 2)]
    for row in rows:
        (tmp_path / row["checkpoint_dir_name"]).mkdir()
    (tmp_path / SNAPSHOT).write_text(json.dumps({"checkpoint_results": rows}))
    SnapshotCallback(StoragePath.local(tmp_path)).after_report(
        None, [], Checkpoint(tmp_path / "checkpoint_0002")
    )
    return tmp_path


def test_a_run_that_never_started_is_left_alone(tmp_path):
    mend_snapshot(StoragePath.local(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.faults
@pytest.mark.parametrize("kept", [0, 1, 40])
def test_half_a_list_gives_way_to_its_copy(run, kept):
    whole = (run / SNAPSHOT).read_text()
    (run / SNAPSHOT).write_text(whole[:kept])
    mend_snapshot(StoragePath.local(run))
    assert (run / SNAPSHOT).read_text() == whole


def test_half_a_list_without_copy_lets_the_training_start_over(run):
    (run / SNAPSHOT).write_text("{")
    (run / COPY).unlink()
    mend_snapshot(StoragePath.local(run))
    assert not (run / SNAPSHOT).exists()


@pytest.mark.faults
def test_a_listed_folder_that_is_gone_becomes_an_empty_one(run):
    (run / "checkpoint_0002").rmdir()
    mend_snapshot(StoragePath.local(run))
    assert (run / "checkpoint_0002").is_dir()
