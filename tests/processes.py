"""The processes of a command, found by the folder that they work in; Linux only.

Ray's processes keep the folder of the command that started them, also when it has died and they are nobody's
children any more.
"""

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TITLES = (
    (r"ray::execute\.", "RayTrainWorker"),  # at work for the controller
    (r"ray::(\w+)", r"\1"),
    (r"ray-dashboard-", "dashboard module"),
    (r".*/(gcs_server|raylet) ", r"\1"),
    (r".*/autoscaler/_private/monitor\.py", "autoscaler monitor"),
    (r".*/(dashboard|log_monitor)\.py", r"\1"),
    (r".*/dashboard/agent\.py", "DashboardAgent"),
    (r".*/runtime_env/agent/main\.py", "RuntimeEnvAgent"),
    (r".*/(default|setup)_worker\.py", "starting worker"),
    (r".* from multiprocessing", "multiprocessing"),
    (r".* -m pipeline ", "command"),
)
"""What a process calls itself, and its role."""


@dataclass(frozen=True, order=True)
class Process:
    """A living process; one that got the number of a dead one is another.

    Attributes:
        pid: Its number.
        started: In the kernel's ticks.
        role: What it does for the command.
    """

    pid: int
    started: int
    role: str = field(compare=False)

    def kill(self) -> None:
        """End it at once, if it lives."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def processes_in(folder: Path) -> list[Process]:
    """Return the living processes whose working folder is this one or lies below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # It may end while it is looked at; the dead ones that wait for their parent have no folder.
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(folder):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Process(int(entry.name), int(after_name[19]), role_of(title)))
    return sorted(found)


def role_of(title: str) -> str:
    """Return what a process does, by what it calls itself."""
    for pattern, role in _TITLES:
        if match := re.match(pattern, title):
            return match.expand(role)
    return Path(title.partition(" ")[0]).name


def outlived(processes: Iterable[Process], folder: Path, *, patience_s: float) -> list[Process]:
    """Return which processes still live after so many seconds; waits no longer than one does."""
    left, deadline_s = set(processes), time.monotonic() + patience_s
    while left and time.monotonic() < deadline_s:
        time.sleep(0.2)
        left &= set(processes_in(folder))
    return sorted(left)
