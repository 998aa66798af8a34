"""`skipline` commands on a tiny job, to which something is done while they run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.digits_job import JOB
from tests.processes import Process, outlived, processes_in

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
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *(arguments or ("run", "job.yaml"))],
            cwd=folder,
            env={
                **inherited,
                "PYTHONPATH": ROOT,
                "SKIPLINE_CACHE_DIR": str(folder / "cache"),
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

    def workers(self) -> list[Process]:
        """Return the processes that train for it."""
        return [process for process in processes_in(self.folder) if process.role == "RayTrainWorker"]

    def leftovers(self) -> list[Process]:
        """Return the processes that are still there some time after its end."""
        return outlived(processes_in(self.folder), self.folder, patience_s=GONE_S)

    def kill(self) -> None:
        """End it and what it has started, as far as that has not ended."""
        for process in processes_in(self.folder):
            process.kill()
        self.process.wait()
        self.process.stdout.close()

    def _show(self, line: str) -> None:
        self.printed += line
        sys.stdout.write(line)
