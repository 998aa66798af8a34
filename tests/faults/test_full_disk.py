"""The disk of a job's storage, and the one to which checkpoints are written first, are full for a while."""

import os
import shutil
import subprocess

import pytest

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

SIZE = "40m"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with little room."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Leave no byte free; returns the file that takes the room."""
    file = folder / "ballast"
    with file.open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(folder).free)
    return file


def test_a_full_storage_ends_the_training_which_goes_on_once_there_is_room(start, small_disk, tmp_path):
    write_job(
        tmp_path,
        training={"epochs": 30},
        storage=str(small_disk),
        registry={"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    )
    command = start("train", "job.yaml")
    command.until("epoch 2/30")
    ballast = fill(small_disk)
    assert command.end() == 1
    assert "No space left on device" in command.printed
    ballast.unlink()
    again = start("train", "job.yaml")
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed


def test_a_full_staging_disk_ends_the_training_which_goes_on_once_there_is_room(start, small_disk, tmp_path):
    write_job(tmp_path, training={"epochs": 30})
    command = start("train", "job.yaml", TMPDIR=str(small_disk))
    command.until("epoch 2/30")
    ballast = fill(small_disk)
    assert command.end() == 1
    assert "No space left on device" in command.printed
    ballast.unlink()
    again = start("train", "job.yaml", TMPDIR=str(small_disk))
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed
