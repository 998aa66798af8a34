"""Makes a job's report and takes it to where people look: the job's folder, its run, its model version."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.tracking import MlflowClient

from pipeline.config import Job
from pipeline.folder import JobFolder
from pipeline.registry import tags
from pipeline.registry.aliases import CHAMPION
from pipeline.registry.failures import tracking_failures
from pipeline.registry.register import RegisteredVersion
from pipeline.registry.store import connect_existing, reach_artifacts, tracking_uri
from pipeline.registry.tracking import JobRun, find_job_run
from pipeline.registry.versions import find_version, look_up_alias, table_of

from .content import Rival, gather, require_measured
from .page import all_figures, render

REPORT_FILE, PLOTS_FOLDER = "report.html", "plots"


@dataclass(frozen=True)
class Standing:
    """Where a job stands in the registry.

    Attributes:
        version: What it registered; None before it did.
        champion: The version that consumers take; None if there is none, or it is the job's own.
    """

    version: RegisteredVersion | None
    champion: Rival | None


@dataclass(frozen=True)
class Report:
    """What people look at.

    Attributes:
        html: The page.
        plots: Its charts as PNG files, by name.
        version: What it is about; None before that is registered.
    """

    html: str
    plots: Mapping[str, bytes]
    version: RegisteredVersion | None


@tracking_failures("look up the job's version and the champion")
def find_standing(client: MlflowClient, job: Job) -> Standing:
    """Return where a job stands in the registry; raises JobError if the store fails."""
    name = job.registry.model
    version, champion = find_version(client, name, job.key()), look_up_alias(client, name, CHAMPION)
    table = table_of(champion) if champion else None
    uri = f"models:/{name}/{champion.version}" if champion else ""
    is_other = version is None or version.uri != uri
    return Standing(version, Rival(uri, table) if table and is_other else None)


def make_report(job: Job, folder: JobFolder, standing: Standing) -> Report:
    """Make a job's report, and store the page in its folder.

    Args:
        job: Its settings as they were given.
        folder: Where its steps left their results.
        standing: In the registry.

    Raises:
        RequestError: If the profiles are not measured yet.
    """
    uri = standing.version.uri if standing.version else None
    content = gather(job, folder, version=uri, champion=standing.champion)
    figures = all_figures(content)
    plots = {f"{figure.key}.png": figure.png() for section in figures.values() for figure in section}
    report = Report(render(content, figures), plots, standing.version)
    folder.report.write_text(report.html)
    return report


def renew_report(job: Job) -> None:
    """Make the report of a job that ran anew, for its folder and its run.

    Raises:
        RequestError: If the profiles are not measured yet, or there is no such store; nothing is created.
        JobError: If the store fails.
    """
    folder = JobFolder.of(job)
    require_measured(job, folder)
    if not folder.root.is_local:
        reach_artifacts(job.s3)
    client = connect_existing(tracking_uri(job))
    report = make_report(job, folder, find_standing(client, job))
    run = find_job_run(client, job.registry.experiment, job.key())
    if run is not None:
        log_report(JobRun(client, run), report)


@tracking_failures("store the report")
def log_report(run: JobRun, report: Report) -> None:
    """Store a report with the job's run, over an earlier one, and link the version to it."""
    run.log_text(report.html, REPORT_FILE)
    with tempfile.TemporaryDirectory() as scratch:
        for name, picture in report.plots.items():
            path = Path(scratch, name)
            path.write_bytes(picture)
            run.log_file(path, PLOTS_FOLDER)
    if report.version is not None:
        link = f"runs:/{run.run_id}/{REPORT_FILE}"
        run.client.set_model_version_tag(report.version.name, str(report.version.version), tags.REPORT, link)
