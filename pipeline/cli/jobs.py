"""Verbs that carry out a job, or write a job file."""

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.config import presets, read_job
from pipeline.errors import RequestError, SkiplineError
from pipeline.registry.probe import ask_ahead, named_uri
from pipeline.terminal import print_profiles, print_table

from .app import SetOption, app, exit_codes
from .completion import complete_job
from .output import JsonOption, Output, QuietOption, speaking

if TYPE_CHECKING:
    from pipeline.config import Job
    from pipeline.search.result import SearchResult
    from pipeline.verbs import JobResult

PANEL = "Jobs"
JobArgument = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="A job file, or a preset's name (quickstart).", autocompletion=complete_job
    ),
]


@app.command(rich_help_panel=PANEL)
def run(
    job: JobArgument, settings: SetOption = None, as_json: JsonOption = False, is_quiet: QuietOption = False
) -> None:
    """Do all of a job: tune, train, evaluate, register."""
    _register(job, settings, as_json=as_json, is_quiet=is_quiet)


@app.command(rich_help_panel=PANEL)
def tune(
    job: JobArgument, settings: SetOption = None, as_json: JsonOption = False, is_quiet: QuietOption = False
) -> None:
    """Search split points and recipe, and keep the best settings for `train`."""
    with _at_work(job, settings, as_json=as_json, is_quiet=is_quiet) as (checked, output):
        from pipeline.folder import JobFolder
        from pipeline.verbs import tune as search

        with output.reporting() as reporter:
            result = search(checked, reporter)
        if as_json:
            found = json.loads(result.to_json()) | {"best": result.best.number}
            output.print_json(_described(checked, {"search": found}))
            return
        _print_trials(output, result)
        output.print(f"kept in {JobFolder.of(checked).root}")
        output.tell("next: skipline train with the same job")


@app.command(rich_help_panel=PANEL)
def train(
    job: JobArgument,
    settings: SetOption = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Then train networks of its depths alone, with several seeds, and compare."
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="How many seeds --baselines has, the job's first; 3 without it."
        ),
    ] = None,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Train the network for all its epochs, with the best trial's settings (tunes first where needed)."""
    with exit_codes():
        if seeds is not None and not baselines:
            raise RequestError(f"--seeds belongs to --baselines, got --seeds {seeds} alone; add --baselines")
    with _at_work(job, settings, as_json=as_json, is_quiet=is_quiet) as (checked, output):
        if baselines:
            _train_baselines(checked, output, num_seeds=seeds)
        else:
            _train(checked, output)


@app.command(rich_help_panel=PANEL)
def evaluate(
    job: JobArgument, settings: SetOption = None, as_json: JsonOption = False, is_quiet: QuietOption = False
) -> None:
    """Measure accuracy, cost and latency of every depth profile (trains first where needed)."""
    with _at_work(job, settings, as_json=as_json, is_quiet=is_quiet) as (checked, output):
        from pipeline.folder import JobFolder
        from pipeline.verbs import evaluate as measure

        with output.reporting() as reporter:
            table = measure(checked, reporter)
        report = str(JobFolder.of(checked).report)
        if as_json:
            output.print_json(_described(checked, {"table": json.loads(table.to_json()), "report": report}))
            return
        print_profiles(output.console, table, title=f"{checked.name}: every depth of one network")
        output.print(f"report: {report}")
        output.tell("next: skipline register with the same job")


@app.command(rich_help_panel=PANEL)
def register(
    job: JobArgument, settings: SetOption = None, as_json: JsonOption = False, is_quiet: QuietOption = False
) -> None:
    """Register the network with its profile table in MLflow (evaluates first where needed)."""
    _register(job, settings, as_json=as_json, is_quiet=is_quiet)


@app.command(rich_help_panel=PANEL)
def report(job: JobArgument, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Make the page of a job anew, from what its folder and the registry hold now.

    Every job makes it at its end; since then there may be another champion, or baselines.
    """
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.waiting("making the report"):
            from pipeline.config import load_job
            from pipeline.folder import JobFolder
            from pipeline.report.publish import renew_report

            checked = load_job(job, settings or ())
            renew_report(checked)
        made = str(JobFolder.of(checked).report)
        if as_json:
            output.print_json(_described(checked, {"report": made}))
        else:
            output.print(f"report: {made}")


@app.command(rich_help_panel=PANEL)
def init(
    path: Annotated[Path, typer.Argument(help="File to write")] = Path("job.yaml"),
    preset: Annotated[
        str,
        typer.Option(
            help=f"Values to start from: {', '.join(presets())}",
            autocompletion=complete_job,
        ),
    ] = "quickstart",
    settings: SetOption = None,
) -> None:
    """Write a commented job file with every key and its default."""
    with exit_codes(), speaking() as output:
        from pipeline.job_template import render_template

        if path.exists():
            raise RequestError(f"init never overwrites, {path} exists; name another file or remove it")
        _write(path, render_template(preset, path=str(path), settings=settings or ()))
        output.print(f"wrote {path}; next: edit it, then `skipline run {path}`")


@app.command(rich_help_panel=PANEL)
def schema(
    output_file: Annotated[
        Path | None, typer.Option("--output", help="File to write; without it the schema is printed")
    ] = None,
) -> None:
    """Write the JSON schema of the job file, by which editors complete keys and mark mistakes.

    [bold]skipline schema --output job.schema.json[/], then as the first line of a job file beside it, for
    VS Code's YAML extension and whatever else speaks to yaml-language-server:

    [bold]# yaml-language-server: $schema=job.schema.json[/]

    The schema knows keys, types and ranges; how settings depend on each other is checked by `plan` and `run`.
    """
    with exit_codes(), speaking() as output:
        from pipeline.job_schema import job_schema

        if output_file is None:
            output.print_json(job_schema())
            return
        _write(output_file, json.dumps(job_schema(), indent=2) + "\n")
        output.print(f"wrote {output_file}; a job file beside it begins with")
        output.print(f"# yaml-language-server: $schema={output_file.name}")


def _write(path: Path, text: str) -> None:
    """Write a file that the user named."""
    try:
        path.write_text(text)
    except OSError as error:
        raise RequestError(
            f"the file must be one that can be written, {path} cannot ({error.strerror}); name another one, "
            "or make its folder"
        ) from error


def _train(job: "Job", output: Output) -> None:
    from pipeline.reporting import describe_epoch
    from pipeline.verbs import train as train_network

    with output.reporting() as reporter:
        result = train_network(job, reporter)
    if output.as_json:
        trained = json.loads(result.to_json()) | {"checkpoint": str(result.checkpoint)}
        output.print_json(_described(job, {"training": trained}))
        return
    last = result.history[-1]
    output.print(f"trained {last.epoch} epochs: {describe_epoch(last.metrics)}")
    output.print(f"best checkpoint: {result.checkpoint}")
    output.tell("next: skipline evaluate with the same job")


def _train_baselines(job: "Job", output: Output, *, num_seeds: int | None) -> None:
    from pipeline.baselines.trainings import DEFAULT_SEEDS
    from pipeline.baselines.verdict import COLUMNS, describe_baselines, table_rows
    from pipeline.folder import JobFolder
    from pipeline.verbs import compare

    with output.reporting() as reporter:
        found = compare(job, reporter, num_seeds=num_seeds or DEFAULT_SEEDS)
    if output.as_json:
        output.print_json(_described(job, {"baselines": json.loads(found.to_json())}))
        return
    title = f"{job.name}: depths of one network against networks of their own"
    print_table(output.console, COLUMNS, table_rows(found), title=title)
    for line in describe_baselines(found):
        output.print(line)
    folder = JobFolder.of(job)
    output.print(f"kept in {folder.baselines_result}")
    output.tell(f"next: skipline {'report' if folder.version.exists() else 'register'} with the same job")


def _register(source: str, settings: Sequence[str] | None, *, as_json: bool, is_quiet: bool) -> None:
    with _at_work(source, settings, as_json=as_json, is_quiet=is_quiet) as (job, output):
        from pipeline.verbs import register as register_network

        with output.reporting() as reporter:
            result = register_network(job, reporter)
        if as_json:
            output.print_json(result.to_dict())
        else:
            _print_registered(job, output, result)


@contextmanager
def _at_work(
    source: str, settings: Sequence[str] | None, *, as_json: bool, is_quiet: bool
) -> "Iterator[tuple[Job, Output]]":
    """Check a job and yield it, with all foreign output in the job's log file until the block ends."""
    with exit_codes():
        data = read_job(source, settings or ())
        with speaking(as_json=as_json, is_quiet=is_quiet) as output, output.waiting("checking the job"):
            # Asked before the imports that take seconds: a server that is silent is so meanwhile.
            await_server = ask_ahead(named_uri(data))
            from pipeline.folder import JobFolder
            from pipeline.preflight import checked_job

            job = checked_job(data, await_server=await_server)
        log_file = JobFolder.of(job).log_file
        with (
            _naming(log_file),
            speaking(as_json=as_json, is_quiet=is_quiet, log_file=log_file) as output,
        ):
            yield job, output


def _described(job: "Job", facts: Mapping[str, Any]) -> dict[str, Any]:
    from pipeline.folder import JobFolder

    return {"job": job.name, "folder": str(JobFolder.of(job).root), **facts}


def _print_registered(job: "Job", output: Output, result: "JobResult") -> None:
    print_profiles(output.console, result.table, title=f"{job.name}: every depth of one network")
    where = (
        f" --tracking-uri {job.registry.tracking_uri}"
        if job.registry.tracking_uri
        else f" --storage {job.storage}"
    )
    output.print(f"registered {result.version.uri}; checkpoints and results in {result.folder}")
    if result.report is not None:
        output.print(f"report: {result.report}")
    output.tell(f"next: skipline profiles {result.version.uri}{where}")


def _print_trials(output: Output, result: "SearchResult") -> None:
    print_table(
        output.console, result.columns(), result.rows(), title="trials", prose=(result.columns()[-1],)
    )


@contextmanager
def _naming(log_file: Path) -> Iterator[None]:
    """Tell where the details of an unforeseen failure are; they are written there, not on the terminal."""
    try:
        yield
    except (SkiplineError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        with log_file.open("a") as log:
            traceback.print_exc(file=log)
        summary = str(error).strip().splitlines()[-1:] or [""]
        raise SkiplineError(
            f"the job failed: {type(error).__name__}: {summary[0]}; details are in {log_file}; what was "
            "finished is kept, the same command goes on from there"
        ) from error
