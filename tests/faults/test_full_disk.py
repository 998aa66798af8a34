"""The disk of a job's storage, and the one to which checkpoints are written first, are full for a while."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

SIZE = "1200m"
"""Free before it is filled: a job is refused where a disk has less than a GiB."""


@pytest.fixture
def small_disk():
    """A file system of its own, by a path that is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    is_mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
    if is_mounted:
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()
    if not is_mounted:
        pytest.skip("file systems are mounted by root alone")


def fill(folder):
    """Leave no byte free; returns the file that takes the room."""
    file = folder / "ballast"
    with file.open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(folder).free)
    return file


@pytest.mark.parametrize("of", ["storage", "staging"])
def test_a_full_disk_ends_the_training_which_goes_on_once_there_is_room(start, small_disk, tmp_path, of):
    tracking = {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    storage = small_disk if of == "storage" else tmp_path / "runs"
    environment = {"TMPDIR": str(small_disk)} if of == "staging" else {}
    write_job(tmp_path, training={"epochs": 30}, storage=str(storage), registry=tracking)
    command = start("train", "job.yaml", **environment)
    command.until("epoch 2/30")
    ballast = fill(small_disk)
    assert command.end() == 1
    last = command.printed.splitlines()[-1]
    assert f"a disk must have room for what a job keeps, there is none for '{small_disk}" in last
    assert "free some and give the same command again" in last
    ballast.unlink()
    again = start("train", "job.yaml", **environment)
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed
