"""Hosts on this machine: network namespaces with addresses of their own on one switch, and Ray nodes on them.

Nothing of the machine's own network changes. A host's cable can be pulled.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "cluster" / "static" / "ray_node.sh"
NETWORK = "10.87.0"
START_S, END_S = 120, 30


def why_no_hosts() -> str | None:
    """Return why hosts cannot be made on this machine, None if they can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    name = f"skipline-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@dataclass(frozen=True)
class Host:
    """A network namespace with one address, whose processes have a Ray folder of their own.

    Attributes:
        name: Of the namespace.
        address: Of the host.
        switch: Namespace of the switch.
        port: Of the switch, in which its cable is.
        environment: What its processes see.
        folder: Its own, for state of its processes.
    """

    name: str
    address: str
    switch: str
    port: str
    environment: dict[str, str]
    folder: Path
    _processes: list[subprocess.Popen] = field(default_factory=list)

    def pull_cable(self) -> None:
        """Let nothing reach the host, nor anything reach others from it."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug_cable(self) -> None:
        """Connect the host again."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def start(self, *command: str, **kwargs) -> subprocess.Popen:
        """Start a command on the host."""
        own_ray = 'mkdir -p "$0" /tmp/ray && mount --bind "$0" /tmp/ray && exec "$@"'
        within = ["ip", "netns", "exec", self.name, "bash", "-c", own_ray, str(self.folder / "ray"), *command]
        process = subprocess.Popen(within, env=self.environment, start_new_session=True, text=True, **kwargs)
        self._processes.append(process)
        return process

    def end(self) -> None:
        """Kill all processes of the host, and wait until they are gone."""
        deadline_s = time.monotonic() + END_S
        while pids := _ip("netns", "pids", self.name).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"processes {pids} of {self.name} cannot be killed")
            time.sleep(0.2)
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def run(self, *command: str) -> str:
        """Run a command on the host to its end; returns what it prints."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        printed, _ = process.communicate(timeout=START_S)
        if process.returncode:
            raise RuntimeError(f"{command} failed on {self.name}:\n{printed}")
        return printed

    def start_node(self, *arguments: str) -> None:
        """Start a Ray node, as the script for machines that one has does it."""
        self.run("bash", str(SCRIPT), *arguments)

    def kill_node(self) -> None:
        """Kill all processes of the host's Ray nodes, as if the machine had lost its power."""
        for file in self.folder.rglob("ray-*/process"):
            subprocess.run(["pkill", "-KILL", "--session", file.read_text().split()[0]], check=False)
            file.unlink()


@contextmanager
def running_hosts(count: int) -> Iterator[Sequence[Host]]:
    """Make hosts that reach one another; they and all their processes are gone when the block ends."""
    mark = f"skipline-{secrets.token_hex(3)}"
    switch = f"{mark}-switch"
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Jobs find `ray`, `skipline` and Python where this one is.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    hosts: list[Host] = []
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number in range(1, count + 1):
            name, port = f"{mark}-{number}", f"port{number}"
            own = folder / str(number)
            own.mkdir()
            host = Host(
                name,
                f"{NETWORK}.{number}",
                switch,
                port,
                {**environment, "XDG_CACHE_HOME": str(own)},
                own,
            )
            _ip("netns", "add", name)
            hosts.append(host)
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            # Nothing is there; Ray asks the system which address would be used to get there.
            _ip("-n", name, "route", "add", "default", "dev", "eth0")
        yield hosts
    finally:
        for host in hosts:
            host.end()
            _ip("netns", "delete", host.name)
        _ip("netns", "delete", switch)
        shutil.rmtree(folder, ignore_errors=True)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
