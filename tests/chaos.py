"""A random process of a job is killed at a random moment; the same command, given again, has to end it well.

A run is a small sweep with its final training, in a folder of its own. Its seed draws a moment of the time
that a run takes undisturbed, then one of the roles that have processes at that moment (the command, each of
Ray's daemons, trials, controllers, workers, their helpers), then the process. The command is given again
until it ends well. `find_problems` says what has to hold then.

Run:      python -m tests.chaos --runs 50 --folder chaos
Expect:   every run passed, one or two commands each
Takes:    three to seven minutes a run on two CPU cores that others use as well
"""

import argparse
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.registry import tags
from pipeline.registry.store import embedded_uri
from pipeline.search.record import RecordStore, TrialRecord
from pipeline.storage import StoragePath

from .processes import Process, outlived, processes_in

ROOT = Path(__file__).parents[1]
NAME = "chaos"
"""Of the job and of its model."""
SETTINGS = {
    "name": NAME,
    "registry.model": NAME,
    "search.trials": 2,
    "search.epochs": 2,
    "training.epochs": 3,
    "data.image_size": 8,
    "data.crop": "none",
    "backbone.kwargs": "{layers: [3, 3, 1, 1], channels: [8, 8, 8, 8]}",
}
"""What makes the quickstart a matter of a minute or two."""
MAX_COMMANDS = 4
PATIENCE = 4.0
"""Times the undisturbed duration: a command that takes longer hangs; chosen."""
FIRST_LIMIT_S = 1200.0
"""While that duration is being measured; chosen."""
LAST_BREATH_S = 60.0
"""How long processes may outlive the last command; chosen."""
RESULTS, UNDISTURBED = "results.jsonl", "undisturbed.json"


@dataclass(frozen=True)
class Attempt:
    """One command of a run.

    Attributes:
        exit_code: None if it hung and was ended.
        duration_s: From its start to its end.
        last_words: The last line that it printed.
        num_orphans: Processes that outlived it.
        orphans_s: For how long they did, as far as the next command saw their end.
    """

    exit_code: int | None
    duration_s: float
    last_words: str
    num_orphans: int
    orphans_s: float | None = None


@dataclass(frozen=True)
class Killed:
    """Which process was killed, and when.

    Attributes:
        moment_s: Since the command's start.
        role: Of the process.
        said: The line that the command had printed last.
    """

    moment_s: float
    role: str
    said: str


@dataclass(frozen=True)
class Ordeal:
    """What a run came to.

    Attributes:
        seed: Of the run.
        killed: None if the job had ended before the moment came.
        attempts: The commands that it took.
        problems: What should not be so at the end; it passed if there are none.
    """

    seed: int | None
    killed: Killed | None
    attempts: list[Attempt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        fate = f"{self.killed.role} killed at {self.killed.moment_s:.0f} s" if self.killed else "undisturbed"
        ends = ", ".join(f"{one.exit_code} after {one.duration_s:.0f} s" for one in self.attempts)
        return f"{fate}: {ends}; {'; '.join(self.problems) or 'passed'}"


class Commands:
    """The commands that are given for one job, one after the other.

    Args:
        folder: In which they are given; nothing else works in it.
        settings: Overrides of the quickstart.
        limit_s: After which a command is taken to hang.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, limit_s: float) -> None:
        self.folder = folder.resolve()
        self._arguments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self._limit_s = limit_s
        self._temporary = self.folder / "tmp"
        self._output = self.folder / "output.txt"
        self._temporary.mkdir(parents=True, exist_ok=True)

    def give(self, draw: random.Random | None = None, moment_s: float = 0.0) -> tuple[Attempt, Killed | None]:
        """Give the command and await its end.

        Args:
            draw: Draws a process that is killed; None leaves all alive.
            moment_s: When that happens, since the start.
        """
        orphans = set(processes_in(self.folder))
        orphans_s = 0.0 if orphans else None
        start_s, killed = time.monotonic(), None
        with self._started() as command:
            while command.poll() is None and (age_s := time.monotonic() - start_s) < self._limit_s:
                living = processes_in(self.folder)
                if orphans & set(living):
                    orphans_s = age_s
                if draw is not None and killed is None and age_s >= moment_s:
                    killed = Killed(age_s, kill_one(living, draw), self.last_words)
                time.sleep(0.2)
            duration_s = time.monotonic() - start_s
            attempt = Attempt(
                command.poll(),
                duration_s,
                self.last_words,
                num_orphans=len([one for one in processes_in(self.folder) if one.pid != command.pid]),
                orphans_s=orphans_s,
            )
        return attempt, killed

    @property
    def last_words(self) -> str:
        """The last line that a command has printed."""
        lines = [line.strip() for line in self._output.read_text().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    @property
    def staging(self) -> list[str]:
        """What is left of checkpoints on their way to the storage."""
        return sorted(path.name for path in self._temporary.glob("skipline-*"))

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        own |= {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self._temporary),
            "RAY_TMPDIR": tempfile.gettempdir(),  # the paths of its sockets may not be long
        }
        with self._output.open("ab") as output:
            command = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "quickstart", *self._arguments],
                cwd=self.folder,
                env=own,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield command
        finally:
            command.kill()
            command.wait()


def kill_one(living: Iterable[Process], draw: random.Random) -> str:
    """Kill a process, each role being as likely as the others; returns its role."""
    by_role = defaultdict(list)
    for process in living:
        by_role[process.role].append(process)
    role = draw.choice(sorted(by_role))
    draw.choice(by_role[role]).kill()
    return role


def endure(
    folder: Path,
    seed: int | None,
    *,
    within_s: float,
    limit_s: float,
    settings: Mapping[str, Any] = SETTINGS,
) -> Ordeal:
    """Do one run; its folder is deleted if it passed.

    Args:
        folder: Of the run alone.
        seed: Draws moment and process; None leaves the run undisturbed.
        within_s: The latest moment that may be drawn.
        limit_s: After which a command is taken to hang.
        settings: Overrides of the quickstart.
    """
    draw = None if seed is None else random.Random(seed)
    moment_s = draw.uniform(0, within_s) if draw else 0.0
    commands = Commands(folder, settings, limit_s=limit_s)
    try:
        first, killed = commands.give(draw, moment_s)
        attempts = [first]
        while attempts[-1].exit_code not in (0, None) and len(attempts) < MAX_COMMANDS:
            attempts.append(commands.give()[0])
        left = outlived(processes_in(commands.folder), commands.folder, patience_s=LAST_BREATH_S)
        ordeal = Ordeal(seed, killed, attempts, find_problems(commands, attempts, left))
    finally:
        for process in processes_in(commands.folder):
            process.kill()
    if not ordeal.problems:
        shutil.rmtree(folder)
    return ordeal


def find_problems(commands: Commands, attempts: list[Attempt], left: Iterable[Process]) -> list[str]:
    """Return what should not be so after the last command of a run."""
    if attempts[-1].exit_code is None:
        return [f"command {len(attempts)} hung for {attempts[-1].duration_s:.0f} s"]
    if attempts[-1].exit_code:
        return [f"{len(attempts)} commands failed"]
    runs = commands.folder / "runs"
    return [
        *(f"process left: {process.role}" for process in left),
        *(f"staging folder left: {name}" for name in commands.staging),
        *lock_problems(runs / NAME / ".lock"),
        *tracking_problems(runs),
    ]


def lock_problems(path: Path) -> list[str]:
    """Return a message if somebody holds a job's lock."""
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ["the job is still locked"]
    return []


def tracking_problems(runs: Path) -> list[str]:
    """Return what is wrong in MLflow: one version, all runs finished, every epoch there and none twice."""
    client = MlflowClient(embedded_uri(runs))
    experiment = client.get_experiment_by_name("skipline")
    found = {run.data.tags.get(tags.TRIAL_ID): run for run in client.search_runs([experiment.experiment_id])}
    records = RecordStore(StoragePath.local(runs / NAME / "search" / "records")).load_all()
    training = json.loads((runs / NAME / "training.json").read_text())
    num_epochs = {None: len(training["history"])} | {one.trial_id: len(one.history) for one in records}
    problems = [f"trial {one.number}: {one.outcome}, {one.cause}" for one in records if not is_good(one)]
    versions = [version.status for version in client.search_model_versions(f"name='{NAME}'")]
    if versions != ["READY"]:
        problems.append(f"versions are {versions}")
    if found.keys() != num_epochs.keys():
        problems.append(f"runs are of {list(found)}, records of {list(num_epochs)}")
    for trial, run in found.items():
        problems += run_problems(client, run, num_epochs=num_epochs.get(trial, 0))
    return problems


def is_good(record: TrialRecord) -> bool:
    """Return whether a trial ended, and not by the death of a process."""
    return record.outcome in ("finished", "stopped")


def run_problems(client: MlflowClient, run: Run, *, num_epochs: int) -> list[str]:
    """Return what is wrong with one run in MLflow."""
    name = run.info.run_name
    problems = [] if run.info.status == "FINISHED" else [f"run {name} is {run.info.status}"]
    for metric in run.data.metrics:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, metric)]
        if len(set(steps)) < len(steps) or (metric == "full/top1" and steps != [*range(1, num_epochs + 1)]):
            problems.append(f"{metric} of run {name} has steps {steps}, {num_epochs} epochs were trained")
    return problems


def undisturbed_duration(folder: Path) -> float:
    """Return how many seconds a run takes that nobody disturbs; measured once a folder.

    Raises:
        RuntimeError: If even that does not end well.
    """
    path = folder / UNDISTURBED
    if not path.exists():
        place = folder / "undisturbed"
        ordeal = endure(place, None, within_s=0, limit_s=FIRST_LIMIT_S)
        say(str(ordeal))
        if ordeal.problems:
            raise RuntimeError(f"a run has to end well undisturbed, this did not; see {place}")
        path.write_text(json.dumps(asdict(ordeal)))
    return float(json.loads(path.read_text())["attempts"][0]["duration_s"])


def read_results(path: Path) -> dict[int, dict[str, Any]]:
    """Return the runs that are done, by seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["seed"]: result for result in map(json.loads, lines)}


def summary(results: Iterable[Mapping[str, Any]], *, undisturbed_s: float) -> Iterator[str]:
    """Yield a table of what the runs came to, by the role that was killed."""
    by_role = defaultdict(list)
    for result in results:
        by_role[result["killed"]["role"] if result["killed"] else "none"].append(result)
    yield "| killed | runs | passed | commands | seconds lost | orphans lived, s |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for role, group in sorted(by_role.items()):
        attempts = [one["attempts"] for one in group]
        lost = mean(sum(one["duration_s"] for one in each) for each in attempts) - undisturbed_s
        orphans = [one["orphans_s"] for each in attempts for one in each if one["orphans_s"] is not None]
        passed = sum(not one["problems"] for one in group)
        yield (
            f"| {role} | {len(group)} | {passed} | {mean(map(len, attempts)):.1f} | {lost:.0f} | "
            f"{max(orphans, default=0):.0f} |"
        )


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def arguments() -> argparse.Namespace:
    """Read the command line."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=50, help="how many (default: 50)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="of the first run (default: 0)")
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help=f"for {RESULTS}, to which each run adds a line (runs that have one are not done again), and for "
        "the folders of runs, of which only those that failed stay",
    )
    return parser.parse_args()


def main() -> int:
    """Do all runs that are not done yet; returns 1 if any failed."""
    given = arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    results_file = given.folder / RESULTS
    undisturbed_s = undisturbed_duration(given.folder)
    seeds = range(given.first, given.first + given.runs)
    for seed in seeds:
        if seed not in read_results(results_file):
            ordeal = endure(
                given.folder / f"run-{seed}", seed, within_s=undisturbed_s, limit_s=PATIENCE * undisturbed_s
            )
            with results_file.open("a") as results:
                results.write(json.dumps(asdict(ordeal)) + "\n")
            say(f"run {seed}: {ordeal}")
    done = [result for seed, result in read_results(results_file).items() if seed in seeds]
    for line in summary(done, undisturbed_s=undisturbed_s):
        say(line)
    return int(any(result["problems"] for result in done))


if __name__ == "__main__":
    sys.exit(main())
