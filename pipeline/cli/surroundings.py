"""Verbs that look at a job and its surroundings before it runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config import read_job
from pipeline.errors import RequestError
from pipeline.terminal import print_table

from .app import SetOption, app, exit_codes
from .completion import complete_job
from .jobs import JobArgument
from .output import JsonOption, Output, speaking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.doctor.findings import Check, Finding


@app.command(rich_help_panel="Surroundings")
def doctor(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="A job file or preset, whose stores are looked at",
            autocompletion=complete_job,
        ),
    ] = None,
    settings: SetOption = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server; default: the job's, MLFLOW_TRACKING_URI, or the embedded store"),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Folder or s3://BUCKET/PREFIX; default: the job's, else runs")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check what jobs need: versions, stores, clocks, Ray and every node of it; with the fix of every fault.

    Writes, reads back and deletes in every store. Exit code 2: something keeps jobs from working.
    """
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.waiting("looking around"):
            findings = _examine(_checks(job, settings or (), tracking_uri, storage))
        if as_json:
            output.print_json([finding.to_dict() for finding in findings])
        else:
            _print_findings(output, findings)
        if any(finding.verdict == "failed" for finding in findings):
            raise typer.Exit(RequestError.exit_code)


def _checks(
    job: str | None, settings: "Sequence[str]", tracking_uri: str | None, storage: str | None
) -> "Sequence[Check]":
    from pipeline.config import S3Config, load_job
    from pipeline.doctor.checks import all_checks
    from pipeline.registry.store import embedded_uri, reach_artifacts
    from pipeline.registry.store import tracking_uri as uri_of

    data: tuple[str, ...] = ()
    if job is None:
        place, s3 = storage or "runs", S3Config()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(Path(place))
    else:
        read = load_job(job, settings)
        place, s3 = storage or read.storage, read.s3
        uri = tracking_uri or uri_of(read)
        data = tuple(place for place in (read.data.train, read.data.validation) if place)
    reach_artifacts(s3)
    return all_checks(tracking_uri=uri, storage=place, s3=s3, data=data)


def _examine(checks: "Sequence[Check]") -> "list[Finding]":
    from pipeline.doctor.findings import examine
    from pipeline.registry.store import hasty

    with hasty(timeout_s=5):
        return list(examine(checks))


def _print_findings(output: Output, findings: "Sequence[Finding]") -> None:
    rows = [[one.check, one.verdict, one.detail, one.fix] for one in findings]
    columns = ["check", "verdict", "seen", "fix"]
    print_table(output.console, columns, rows, title="doctor", prose=("seen", "fix"))


@app.command(rich_help_panel="Surroundings")
def plan(
    job: JobArgument,
    settings: SetOption = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="To train with, where they are counted only when copied (s3://)")
    ] = None,
    with_probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Time a few steps on this machine's CPU, never on a GPU"),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Say what a job will do before it does it: what runs where, what it reads and writes, what it costs.

    Checks the job as `run` does; trains, registers and stores nothing.
    """
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.reporting() as reporter:
            reporter.advance("checking the job", 0, 1)
            from pipeline.planning import describe_plan
            from pipeline.preflight import checked_job

            rows = describe_plan(
                checked_job(read_job(job, settings or ())),
                images=images,
                with_probe=with_probe,
                on_progress=reporter.advance,
            )
        if as_json:
            output.print_json(dict(rows))
        else:
            cells = [list(row) for row in rows]
            print_table(output.console, ["subject", "plan"], cells, title="plan", prose=("plan",))
