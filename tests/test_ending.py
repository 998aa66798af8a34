"""A command that ignores its first signals, as Ray Train does, is told to stop."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.cli.ending import SAME_S
from tests.processes import outlived, processes_in

COMMAND = """
import hashlib, signal, subprocess, sys
from pipeline.cli.ending import listen_for_signals
listen_for_signals()
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
while True:
    hashlib.pbkdf2_hmac("sha256", b"", b"", ROUNDS)  # one call, within which Python hears nothing
"""
BUSY_ROUNDS = 10_000_000
"""Some seconds of work."""

pytestmark = pytest.mark.faults


@pytest.fixture
def rounds():
    return 1000


@pytest.fixture
def command(tmp_path, rounds):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.replace("ROUNDS", str(rounds))],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    for one in processes_in(tmp_path):
        one.kill()
    process.communicate()


def test_the_second_signal_ends_it_with_all_that_it_started(command, tmp_path):
    started = processes_in(tmp_path)
    command.send_signal(signal.SIGINT)
    time.sleep(2 * SAME_S)
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 1
    assert command.stderr.read() == "ended at once; the same command goes on from here\n"
    assert len(started) == 2
    assert outlived(started, tmp_path, patience_s=5) == []


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_script_starts_in_the_background_hears_as_well(told):
    code = (
        "from time import sleep; from pipeline.cli.ending import listen_for_signals as listen; listen()\n"
        "try: print('ready', flush=True); sleep(30)\n"
        "except KeyboardInterrupt: print('heard')"
    )
    script = ["bash", "-c", '"$0" -c "$1" & echo $!; wait', sys.executable, code]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as shell:
        command, ready = shell.stdout.readline(), shell.stdout.readline()
        os.kill(int(command), told)
        assert (ready, shell.stdout.read()) == ("ready\n", "heard\n")


def test_a_signal_that_is_passed_on_is_no_second_one(command):
    command.send_signal(signal.SIGINT)
    command.send_signal(signal.SIGTERM)
    time.sleep(2 * SAME_S)
    assert command.poll() is None
    assert command.stdout.readline() == "heard\n"


@pytest.mark.parametrize("rounds", [BUSY_ROUNDS])
def test_a_signal_that_is_passed_on_late_is_no_second_one(command):
    time.sleep(0.2)  # at work
    command.send_signal(signal.SIGTERM)
    assert command.stdout.readline() == "heard\n"
    time.sleep(2 * SAME_S)
    assert command.poll() is None
