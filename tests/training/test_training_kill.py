"""A training is killed in mid-epoch; the same command ends with the weights that it would have had."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

# That a killed run goes on is seen with every commit by tests/integration/test_job.py.
pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("training_under_test.py")
DEADLINE_S = 240


def start(folder, *, workers):
    folder.mkdir(exist_ok=True)
    root = str(SCRIPT.parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(workers)],
        env={**environment, "PYTHONPATH": root},
        cwd=root,
    )


def positions(folder):
    path = folder / "positions.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(int(word) for word in line.split()) for line in lines if line[0].isdigit()]


def wait_for_mid_epoch(folder, process, *, epoch):
    """Return once a step of an epoch is done that is neither its first nor its last."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if any(at == epoch and 1 < step < num_steps for at, step, num_steps in positions(folder)):
            return
        time.sleep(0.02)
    raise TimeoutError(f"no step of epoch {epoch} within {DEADLINE_S} s, exit code {process.poll()}")


def train_with_kill(folder, *, workers):
    process = start(folder, workers=workers)
    try:
        wait_for_mid_epoch(folder, process, epoch=2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    stored = sorted(path.name for path in (folder / "run").glob("checkpoint_0*"))
    train(folder, workers=workers)
    return stored


def train(folder, *, workers):
    assert start(folder, workers=workers).wait(DEADLINE_S) == 0


def last_weights(folder):
    return load_file(folder / "run" / "checkpoint_0003" / "model.safetensors")


def last_optimizer(folder):
    return load_file(folder / "run" / "checkpoint_0003" / "optimizer.safetensors")


@pytest.fixture(scope="module", params=[1, 2])
def runs(request, tmp_path_factory):
    """An uninterrupted run, one that was killed in its second epoch, and what was stored at the kill."""
    folder = tmp_path_factory.mktemp("kill")
    train(folder / "whole", workers=request.param)
    stored = train_with_kill(folder / "cut", workers=request.param)
    return folder / "whole", folder / "cut", stored


def test_a_run_killed_in_mid_epoch_ends_with_the_same_weights_bit_for_bit(runs):
    whole, cut, stored = runs
    assert stored == ["checkpoint_0001"]
    expected, found = last_weights(whole), last_weights(cut)
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not value.equal(found[name])] == []


def test_its_optimiser_ends_the_same_too(runs):
    whole, cut, _ = runs
    expected, found = last_optimizer(whole), last_optimizer(cut)
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not value.equal(found[name])] == []
