"""The batch script for SLURM, with stand-ins for SLURM, Ray and the job that note what they are told."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cluster.definitions import SHELL

NOTES = 'echo "$(basename "$0") $RAY_AUTH_TOKEN $*" >> "$HOME/notes"\n'
STAND_INS = {
    "srun": 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"\n',
    "ray": NOTES + 'if [[ "$1" == start ]]; then exec sleep 600; fi\n',
    "python": f'if [[ "$1" == -c ]]; then exec {sys.executable} "$@"; fi\n',  # else it would wait for nodes
    "skipline": NOTES + "${JOB_DOES:-exit 0}\n",
    "scontrol": NOTES,
}


@pytest.fixture
def batch(tmp_path):
    """Start the script as SLURM would, on a node of its own."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o700)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURMD_NODENAME": "a",
    }
    started = []

    def start(**variables):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), **slurm, **variables}
        started.append(
            subprocess.Popen(["bash", SHELL[1], "job.yaml"], env=own, text=True, start_new_session=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        subprocess.run(["pkill", "-KILL", "--session", str(process.pid)], check=False)
        process.wait()


def notes(tmp_path, until):
    """Return what the stand-ins wrote, each as name, token and arguments, once a word is among it."""
    file, deadline = tmp_path / "notes", time.monotonic() + 20
    while time.monotonic() < deadline and not (file.exists() and until in file.read_text()):
        time.sleep(0.05)
    return [line.split(" ", 2) for line in file.read_text().splitlines()]


def is_over(process):
    return (
        subprocess.run(
            ["pgrep", "--runstates", "D,R,S,T", "--session", str(process.pid)], check=False
        ).returncode
        == 1
    )


def test_head_workers_and_job_share_a_token_that_no_command_line_shows(batch, tmp_path):
    batch().wait(timeout=20)
    told = notes(tmp_path, "job.yaml")
    assert {(name, *arguments.split()[:2]) for name, _, arguments in told} >= {
        ("ray", "start", "--block"),
        ("skipline", "run", "job.yaml"),
    }
    (token,) = {token for _, token, _ in told}
    assert len(token) == 64
    assert token not in " ".join(arguments for _, _, arguments in told)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_script_ends_as_the_job_does_and_leaves_nothing_running(batch, code):
    process = batch(JOB_DOES=f"exit {code}")
    assert process.wait(timeout=20) == code
    assert is_over(process)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGUSR1, 0), (signal.SIGTERM, 143)])
def test_a_job_is_stopped_before_its_time_is_over(batch, tmp_path, sent, code):
    process = batch(JOB_DOES="exec sleep 600")
    notes(tmp_path, "--labels=role=worker")
    notes(tmp_path, "job.yaml")
    process.send_signal(sent)
    assert process.wait(timeout=20) == code
    assert is_over(process)
    assert ("scontrol" in {name for name, _, _ in notes(tmp_path, "job.yaml")}) == (sent == signal.SIGUSR1)
