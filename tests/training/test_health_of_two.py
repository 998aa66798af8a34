"""What one of two workers sees stops both, at the same step and for the same reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("watch_under_test.py")
ROOT = str(SCRIPT.parents[2])


def stop_of_both(meeting, fault):
    """What each of two workers says."""
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(meeting), fault],
            env={**os.environ, "PYTHONPATH": ROOT},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [worker.communicate(timeout=120)[0].strip() for worker in workers]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("images", "got nan in epoch 1, step 2 of 3, at learning rate 0.1; first not finite: the images"),
        ("loss", "got inf in epoch 1, step 2 of 3, at learning rate 0.1; every module's output is finite"),
    ],
)
def test_both_workers_stop_with_the_reason_of_the_one_that_saw_it(tmp_path, fault, reason):
    first, second = stop_of_both(tmp_path / "meeting", fault)
    assert first == second
    assert reason in first
