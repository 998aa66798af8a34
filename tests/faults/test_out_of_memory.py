"""The workers of one trial are killed again and again, as the kernel does where memory runs out."""

import json
import time

import pytest

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

VICTIM = 1


def records(folder):
    """What is known of every trial, by number."""
    files = (folder / "runs" / "broken" / "search" / "records").glob("*.json")
    return {record["number"]: record for record in (json.loads(file.read_text()) for file in files)}


def kill_workers_of(number, command, folder):
    """Kill every worker until the trial of a number has ended; one trial runs at a time."""
    while records(folder)[number]["outcome"] is None:
        for worker in command.workers():
            worker.kill()
        time.sleep(0.5)


def test_a_trial_whose_workers_run_out_of_memory_fails_alone_with_that_cause(start, tmp_path):
    write_job(
        tmp_path,
        training={"workers": 2},
        search={"space": "resnet", "trials": 3, "epochs": 2, "data_fraction": 0.2, "scheduler": "none"},
    )
    command = start("tune", "job.yaml")
    command.until("trial 1/3  epoch 2")
    while VICTIM not in records(tmp_path):
        time.sleep(0.1)
    kill_workers_of(VICTIM, command, tmp_path)
    assert command.end() == 0
    ended = records(tmp_path)
    assert [ended[number]["outcome"] for number in range(3)] == ["finished", "failed", "finished"]
    assert "memory" in ended[VICTIM]["cause"]
