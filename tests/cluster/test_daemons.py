"""A command whose embedded Ray loses a daemon ends; without that it would wait for ever."""

import subprocess
import sys

import pytest

from cluster.daemons import NEEDED

pytestmark = [pytest.mark.ray, pytest.mark.faults]

WAITS_FOR_EVER = """
import sys, threading
import ray
from ray._private import worker
from cluster.daemons import daemons_watched
from cluster.runtime import connected

@ray.remote
class Actor:
    def wait(self):
        threading.Event().wait()

with connected():
    call = Actor.remote().wait.remote()
    (daemon,) = worker._global_node.all_processes[sys.argv[1]]
    with daemons_watched(lambda loss: print(loss, flush=True)):
        daemon.process.kill()
        ray.get(call)
"""


@pytest.mark.parametrize("daemon", NEEDED)
def test_a_command_says_which_daemon_it_lost_and_ends(daemon):
    command = [sys.executable, "-c", WAITS_FOR_EVER, daemon]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1, ended.stderr
    assert f"{daemon} ended with -9" in ended.stdout.splitlines()
