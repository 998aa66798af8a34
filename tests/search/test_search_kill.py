"""A sweep is killed right after its first trial ended; the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # the whole job through two kills is in the default run

SCRIPT = Path(__file__).with_name("sweep_under_test.py")
DEADLINE_S = 150


def start_sweep(folder):
    root = str(SCRIPT.parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**environment, "PYTHONPATH": root},
        cwd=root,
    )


def read_diary(folder):
    path = folder / "diary.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_an_end(folder, process):
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if any(line[0] == "end" for line in read_diary(folder)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no trial ended within {DEADLINE_S} s, exit code {process.poll()}")


@pytest.fixture(scope="module")
def diaries(tmp_path_factory):
    """What an observer heard before a kill, and from the same command run again."""
    folder = tmp_path_factory.mktemp("kill")
    process = start_sweep(folder)
    try:
        wait_for_an_end(folder, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = read_diary(folder)
    (folder / "diary.jsonl").unlink()
    assert start_sweep(folder).wait(DEADLINE_S) == 0
    return before, read_diary(folder), json.loads((folder / "search" / "result.json").read_text())["trials"]


def test_ended_trials_keep_their_id_and_are_not_trained_again(diaries):
    before, after, _ = diaries
    trial_id = next(line[1] for line in before if line[0] == "end")
    # Epochs carry the time at which they ended, so equal lines mean that none was trained twice.
    assert [line for line in after if line[1] == trial_id] == [line for line in before if line[1] == trial_id]


def test_sweep_goes_on_to_its_last_trial(diaries):
    before, _, result = diaries
    assert [trial["number"] for trial in result] == [0, 1]
    assert result[0]["trial_id"] == before[0][1]
