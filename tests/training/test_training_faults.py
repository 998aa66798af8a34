"""Processes of a training killed while it runs: it goes on by itself, and loses at most what it says."""

import os
import re
import signal

import pytest
from ray.util.state import list_actors
from safetensors.torch import load_file

from pipeline.storage import StoragePath
from pipeline.training.plan import plan_training
from pipeline.training.snapshot import COPY
from pipeline.training.trainer import run_training

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("ray_cluster")]

EPOCHS = 2


class Killer:
    """Follows a training and kills a process of it, once, when the time has come."""

    def __init__(self, run, role, is_time):
        self._run, self._role, self._is_time = run, role, is_time
        self.notes, self.positions = [], []
        self.killed_at = None

    def __call__(self, progress):
        self.notes += [note for note in progress.notes if "loss spike" not in note]
        self.positions.append((progress.epoch, progress.step))
        if self.killed_at is None and self._is_time(self._run, progress):
            (actor,) = list_actors(
                filters=[("class_name", "=", self._role), ("state", "=", "ALIVE")], detail=True
            )
            os.kill(actor.pid, signal.SIGKILL)
            self.killed_at = (progress.epoch, progress.step)


def trained(plan, folder, killer=lambda _progress: None):
    return run_training(plan, name="run", storage=StoragePath.local(folder), on_progress=killer)


def weights(result):
    return load_file(result.checkpoint.local_path / "model.safetensors")


def has_checkpoint_within_epoch_2(run, progress):
    listed = run / COPY
    return listed.exists() and re.search(r"checkpoint_0001_\d{6}", listed.read_text()) and progress.epoch == 2


def is_within_epoch_2(_run, progress):
    return progress.epoch == 2 and progress.step > 1


def test_a_killed_worker_goes_on_within_its_epoch_to_the_same_weights(digits, tiny_job, tmp_path):
    plan = plan_training(tiny_job(epochs=EPOCHS, batch_size=2, checkpoint_minutes=0.01), digits)
    killer = Killer(tmp_path / "broken" / "run", "RayTrainWorker", has_checkpoint_within_epoch_2)
    result = trained(plan, tmp_path / "broken", killer)
    (note,) = killer.notes
    kept = int(re.fullmatch(r"training goes on after epoch 1 and (\d+) updates, on 1 worker\(s\)", note)[1])
    assert kept > 0
    assert [report.epoch for report in result.history] == [1, 2]

    whole = trained(plan, tmp_path / "whole")
    expected = weights(whole)
    assert result.checkpoint.name == whole.checkpoint.name
    for name, value in weights(result).items():
        assert value.equal(expected[name]), name
    assert result.history[-1].metrics["train/loss"] == whole.history[-1].metrics["train/loss"]


@pytest.mark.slow
def test_a_run_whose_controller_is_killed_goes_on(digits, tiny_job, tmp_path):
    plan = plan_training(tiny_job(epochs=EPOCHS, batch_size=4), digits)
    killer = Killer(tmp_path / "run", "TrainController", is_within_epoch_2)
    result = trained(plan, tmp_path, killer)
    died, went_on = killer.notes
    assert died.startswith("run: the process that leads it died, it goes on")
    assert went_on == "training goes on after epoch 1, on 1 worker(s)"
    assert [report.epoch for report in result.history] == [1, 2]
