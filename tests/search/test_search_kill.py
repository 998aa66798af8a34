"""A sweep is killed at three moments; the same command ends as a sweep that nobody killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # the whole job through two kills is in the default run

SCRIPT = Path(__file__).with_name("sweep_under_test.py")
DEADLINE_S = 300

MOMENTS = (
    ("in the first epoch of the first trial", lambda lines: heard(lines, "start") >= 1),
    (
        "while trials wait for a place",
        lambda lines: heard(lines, "start") >= 3 and heard(lines, "epoch") >= 5,
    ),
    ("right after a trial has ended", lambda lines: heard(lines, "end") >= 2),
)


def heard(lines, kind):
    return sum(line[0] == kind for line in lines)


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


def kill_at(folder, process, moment):
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if moment(read_diary(folder)):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)
    process.kill()
    raise TimeoutError(f"the moment did not come within {DEADLINE_S} s, exit code {process.poll()}")


def read_trials(folder):
    return json.loads((folder / "search" / "result.json").read_text())["trials"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert start_sweep(folder).wait(DEADLINE_S) == 0
    return read_trials(folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The trials of a sweep that was killed at all moments, and what an observer heard in each command."""
    folder = tmp_path_factory.mktemp("killed")
    diaries = []
    for _, moment in MOMENTS:
        kill_at(folder, start_sweep(folder), moment)
        diaries.append(read_diary(folder))
        (folder / "diary.jsonl").unlink()
    assert start_sweep(folder).wait(DEADLINE_S) == 0
    return read_trials(folder), [*diaries, read_diary(folder)]


def test_trials_keep_their_ids(killed):
    trials, diaries = killed
    ids = {(line[2], line[1]) for diary in diaries for line in diary if line[0] == "start"}
    assert sorted(ids) == [(trial["number"], trial["trial_id"]) for trial in trials]


def test_no_epoch_is_trained_twice(killed):
    _, diaries = killed
    # Epochs carry the time at which they ended, and every command tells those of before again.
    epochs = {tuple(line[1:4]) for diary in diaries for line in diary if line[0] == "epoch"}
    assert max(Counter(epoch[:2] for epoch in epochs).values()) == 1
    for diary in diaries:
        heard_of = [tuple(line[1:3]) for line in diary if line[0] == "epoch"]
        assert len(set(heard_of)) == len(heard_of)


def test_designs_ends_and_scores_are_those_of_a_sweep_that_nobody_killed(killed, uninterrupted):
    kept = ("number", "seed", "values", "epochs", "outcome", "score", "scores")
    for found, expected in zip(killed[0], uninterrupted, strict=True):
        assert {key: found[key] for key in kept} == {key: expected[key] for key in kept}


def test_the_winner_is_the_same(killed, uninterrupted):
    winners = [
        max(trials, key=lambda trial: trial["score"])["number"] for trials in (killed[0], uninterrupted)
    ]
    assert winners[0] == winners[1]
