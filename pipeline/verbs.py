"""What the verbs of a job do, from its checked settings to what it brought; no printing, no exit codes."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline import steps
from pipeline.baselines.result import Baselines
from pipeline.baselines.step import train_baselines
from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.evaluation.table import ProfileTable
from pipeline.folder import JobFolder
from pipeline.registry.register import RegisteredVersion
from pipeline.reporter import Reporter
from pipeline.search.result import SearchResult
from pipeline.search.verdict import describe_verdict
from pipeline.training.result import TrainingResult


@dataclass(frozen=True)
class JobResult:
    """What a whole job leaves behind.

    Attributes:
        name: Of the job.
        folder: Where its checkpoints and results are.
        version: The registered model version.
        table: Its profile table.
        report: The page that shows what it did; None if there is none.
    """

    name: str
    folder: str
    version: RegisteredVersion
    table: ProfileTable
    report: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        return {
            "job": self.name,
            "folder": self.folder,
            "version": asdict(self.version),
            "table": asdict(self.table),
            "report": self.report,
        }

    def __str__(self) -> str:
        return f"{self.version}, by job {self.name} in {self.folder}\n\n{self.table}"

    def _repr_html_(self) -> str:
        return f"<p><b>{self.version}</b>, by job {self.name}</p>{self.table._repr_html_()}"


def tune(job: Job, reporter: Reporter) -> SearchResult:
    """Search split points and recipe; raises RequestError for a job without search."""
    was_done = JobFolder.of(job).search_result.exists()
    result = None
    if job.search is not None:
        with steps.opened(job, reporter) as session:
            result = steps.tune(session)
    if result is None:
        raise RequestError(
            f"tune needs a search section, job {job.name!r} has none; add search: with space and epochs"
        )
    if was_done:
        for line in describe_verdict(job, result):
            reporter.say(line)
    return result


def train(job: Job, reporter: Reporter) -> TrainingResult:
    """Train the network for all its epochs, with the best trial's settings."""
    with steps.opened(job, reporter) as session:
        return steps.train(session)


def compare(job: Job, reporter: Reporter, *, num_seeds: int) -> Baselines:
    """Train networks of single depths alone, and the job's own where it is not; see `train_baselines`."""
    with steps.opened(job, reporter) as session:
        return train_baselines(session, num_seeds=num_seeds)


def evaluate(job: Job, reporter: Reporter) -> ProfileTable:
    """Measure every depth profile, and make the report."""
    with steps.opened(job, reporter) as session:
        table = steps.evaluate(session)
        steps.report(session)
    return table


def register(job: Job, reporter: Reporter) -> JobResult:
    """Do all of a job; one that is done is recognised, and nothing is started."""
    if done := steps.finished(job):
        reporter.say(f"job {job.name!r} is finished already")
        version, table = done
    else:
        with steps.opened(job, reporter) as session:
            version, table = steps.register(session), steps.evaluate(session)
    folder = JobFolder.of(job)
    report = str(folder.report) if folder.report.exists() else None
    return JobResult(job.name, str(folder.root), version, table, report)
