"""`skipline run` that is told to stop: once, twice, and by the system."""

import signal
import time

import pytest
from mlflow import MlflowClient

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]


def statuses(folder):
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("skipline").experiment_id])
    return [run.info.status for run in runs]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_told_to_stop_closes_its_run_and_is_gone_on_with(start, tmp_path, number):
    write_job(tmp_path, training={"epochs": 30})
    command = start("train", "job.yaml")
    command.until("epoch 2/30")
    command.interrupt(number)
    assert command.end() == 1
    assert command.printed.endswith("stopped; the same command goes on from here\n")
    assert command.leftovers() == []
    assert statuses(tmp_path) == ["KILLED"]
    again = start("train", "job.yaml")
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed
    assert statuses(tmp_path) == ["FINISHED"]


def test_a_command_told_twice_ends_at_once_with_all_of_ray_and_is_gone_on_with(start, tmp_path):
    write_job(tmp_path, training={"epochs": 30})
    command = start("train", "job.yaml")
    command.until("epoch 2/30")
    command.interrupt()
    time.sleep(1)
    command.interrupt()
    assert command.end() == 1
    assert command.printed.endswith("ended at once; the same command goes on from here\n")
    assert command.leftovers() == []
    again = start("train", "job.yaml")
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed
    assert statuses(tmp_path) == ["FINISHED"]
