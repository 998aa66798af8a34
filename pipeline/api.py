"""The verbs of a job for programs and notebooks: `pipeline.run("job.yaml", {"training.epochs": 3})`.

They check a job and carry it out as the command line does, and go on where an earlier call or command ended.
Results are values, errors `pipeline.errors`. Signals and streams of the process are left alone; progress is
printed as lines, unless a reporter is given.
"""

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config import Job, read_job, set_dotted
from pipeline.reporter import Reporter
from pipeline.telemetry import switch_telemetry_off
from pipeline.terminal import Lines, console_on

if TYPE_CHECKING:
    from pipeline.evaluation.table import ProfileTable
    from pipeline.search.result import SearchResult
    from pipeline.training.result import TrainingResult
    from pipeline.verbs import JobResult

T = TypeVar("T")
JobLike = Job | Mapping[str, Any] | str | Path
"""A job, what a job file holds, or a file or preset."""
NOTHING_SET: Mapping[str, Any] = {}


def run(
    job: JobLike, settings: Mapping[str, Any] = NOTHING_SET, *, reporter: Reporter | None = None
) -> "JobResult":
    """Do all of a job: tune, train, evaluate, register; one that is done returns what it left behind.

    Args:
        job: A preset's name, the path of a job file, what such a file holds, or a `Job`.
        settings: Overrides by dotted key, such as `{"training.epochs": 3}`.
        reporter: Told how it goes; None prints lines.

    Raises:
        RequestError: If the job cannot be carried out as it is; with all problems, before anything starts.
        JobError: If it failed; what was finished is kept.
    """
    switch_telemetry_off()
    from pipeline import verbs

    return _carry_out(verbs.register, job, settings, reporter)


def tune(
    job: JobLike, settings: Mapping[str, Any] = NOTHING_SET, *, reporter: Reporter | None = None
) -> "SearchResult":
    """Search split points and recipe; arguments and errors as for `run`."""
    switch_telemetry_off()
    from pipeline import verbs

    return _carry_out(verbs.tune, job, settings, reporter)


def train(
    job: JobLike, settings: Mapping[str, Any] = NOTHING_SET, *, reporter: Reporter | None = None
) -> "TrainingResult":
    """Train the network, with the best trial's settings; arguments and errors as for `run`."""
    switch_telemetry_off()
    from pipeline import verbs

    return _carry_out(verbs.train, job, settings, reporter)


def evaluate(
    job: JobLike, settings: Mapping[str, Any] = NOTHING_SET, *, reporter: Reporter | None = None
) -> "ProfileTable":
    """Measure every depth profile; arguments and errors as for `run`."""
    switch_telemetry_off()
    from pipeline import verbs

    return _carry_out(verbs.evaluate, job, settings, reporter)


def _carry_out(
    verb: Callable[[Job, Reporter], T],
    job: JobLike,
    settings: Mapping[str, Any],
    reporter: Reporter | None,
) -> T:
    from pipeline.preflight import checked_job
    from pipeline.registry.probe import ask_ahead, named_uri

    data = _read(job, settings)
    checked = checked_job(data, await_server=ask_ahead(named_uri(data)))
    return verb(checked, reporter or Lines(console_on(sys.stdout)))


def _read(job: JobLike, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as plain data, not checked yet."""
    match job:
        case Job():
            data = job.model_dump(mode="json")
        case Mapping():
            data = copy.deepcopy(dict(job))
        case _:
            data = read_job(str(job))
    for key, value in settings.items():
        set_dotted(data, key, value)
    return data
