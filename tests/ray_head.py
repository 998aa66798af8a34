"""A Ray head node with its dashboard on loopback, as an administrator starts one, in processes of its own."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.production_servers import free_port

START_S = 120


@dataclass(frozen=True)
class Head:
    """A running head node.

    Attributes:
        url: Of its dashboard.
        address: Of the node, for drivers.
        token: That it asks for.
        environment: What a client of it sets.
    """

    url: str
    address: str
    token: str
    environment: dict[str, str]


@contextmanager
def running_head(*, num_cpus: int) -> Iterator[Head]:
    """Run a head node that asks for a token until the block ends."""
    folder, token = Path(tempfile.mkdtemp(prefix="ray-")), secrets.token_hex(32)
    port, dashboard_port = free_port(), free_port()
    client = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    # Jobs find `skipline` and Python where this one is.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **client, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"),
        *(f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"),
        *(f"--num-cpus={num_cpus}", f"--temp-dir={folder}", f"--object-store-memory={256 * 2**20}"),
        "--node-ip-address=127.0.0.1",
    ]
    url = f"http://127.0.0.1:{dashboard_port}"
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline_s = time.monotonic() + START_S
        while not _answers(url, token):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"ray start does not start:\n{(folder / 'head.log').read_text()[-4000:]}")
            time.sleep(0.5)
        yield Head(url, f"127.0.0.1:{port}", token, client)
    finally:
        # Asked to end, it would drain for half a minute; one that is still there would confuse the next.
        subprocess.run(["pkill", "-KILL", "--full", str(folder)], check=False)
        process.wait()
        while subprocess.run(["pgrep", "--full", str(folder)], check=False, capture_output=True).stdout:
            time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str, token: str) -> bool:
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
