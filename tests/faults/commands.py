"""`skipline` commands on a tiny job, to which something is done while they run."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import yaml

from tests.digits_job import JOB

END_S = 300
GONE_S = 30
ROOT = str(Path(__file__).parents[2])


def write_job(folder: Path, **changes) -> None:
    """Write a job file; sections that are given as mappings are merged with the tiny job's."""
    job = {**JOB, "name": "broken", "registry": {"model": "broken"}}
    for name, value in changes.items():
        job[name] = {**job.get(name, {}), **value} if isinstance(value, dict) else value
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


class Command:
    """A command at work; what it prints is shown where a test fails.

    Args:
        folder: In which it runs and where its job file is.
        environment: Beside that of the test.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.printed = ""
        self._mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *(arguments or ("run", "job.yaml"))],
            cwd=folder,
            env={
                **inherited,
                "PYTHONPATH": ROOT,
                "SKIPLINE_CACHE_DIR": str(folder / "cache"),
                "SKIPLINE_TEST": self._mark,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, text: str) -> None:
        """Return once a line with this text is printed."""
        for line in self.process.stdout:
            self._show(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} was never printed")

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        for line in self.process.stdout:
            self._show(line)
        return self.process.wait(END_S)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)

    def processes(self, title: str = "") -> list[int]:
        """Return the processes that it has started, those of a title alone, such as `ray::RayTrainWorker`."""
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if self._mark in _read(folder / "environ") and title in _read(folder / "cmdline")
        ]

    def leftovers(self) -> list[int]:
        """Return the processes that are still there some time after its end."""
        deadline_s = time.monotonic() + GONE_S
        while (left := self.processes()) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        return left

    def kill(self) -> None:
        """End it and what it has started, as far as that has not ended."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def _show(self, line: str) -> None:
        self.printed += line
        sys.stdout.write(line)


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode(errors="replace")
    except OSError:  # the process has ended, or is another user's
        return ""
