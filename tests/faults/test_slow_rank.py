"""One of two workers is stopped for a while, or for ever."""

import os
import signal
import time

import pytest

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

PAUSE_S = 8


@pytest.fixture
def training(start, tmp_path):
    """A training of two workers after its second epoch; one that is silent for 15 s is given up."""
    write_job(tmp_path, training={"epochs": 30, "workers": 2})
    command = start("train", "job.yaml", RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S="15")
    command.until("epoch 2/30")
    return command


def test_a_slow_worker_slows_the_training_and_raises_no_alarm(training):
    *_, worker = training.workers()
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(worker.pid, signal.SIGCONT)
    assert training.end() == 0
    lines = [line for line in training.printed.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{epoch}/30" for epoch in range(1, 31)]
    assert "training goes on" not in training.printed


def test_a_worker_that_hangs_is_given_up_and_the_training_goes_on_from_its_last_epoch(training):
    *_, worker = training.workers()
    os.kill(worker.pid, signal.SIGSTOP)
    assert training.end() == 0
    assert training.leftovers() == []
    lines = [line for line in training.printed.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{epoch}/30" for epoch in range(1, 31)]
