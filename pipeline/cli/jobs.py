"""Verbs that carry out a job, or write a job file."""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.config import presets, read_job
from pipeline.errors import RequestError, SkiplineError
from pipeline.folder import JobFolder
from pipeline.registry.probe import ask_ahead
from pipeline.terminal import Terminal, print_profiles, print_table, quiet, waiting

from .app import SetOption, app, exit_codes

if TYPE_CHECKING:
    from pipeline.config import Job
    from pipeline.evaluation.table import ProfileTable
    from pipeline.registry.register import RegisteredVersion
    from pipeline.search.result import SearchResult
    from pipeline.steps import Session

PANEL = "Jobs"
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job file, or a preset's name (quickstart).")
]


@app.command(rich_help_panel=PANEL)
def run(job: JobArgument, settings: SetOption = None) -> None:
    """Do all of a job: tune, train, evaluate, register."""
    _work(job, settings, _register)


@app.command(rich_help_panel=PANEL)
def tune(job: JobArgument, settings: SetOption = None) -> None:
    """Search split points and recipe, and keep the best settings for `train`."""
    _work(job, settings, _tune)


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
) -> None:
    """Train the network for all its epochs, with the best trial's settings (tunes first where needed)."""
    with exit_codes():
        if seeds is not None and not baselines:
            raise RequestError(f"--seeds belongs to --baselines, got --seeds {seeds} alone; add --baselines")
    _work(job, settings, partial(_train_baselines, num_seeds=seeds) if baselines else _train)


@app.command(rich_help_panel=PANEL)
def evaluate(job: JobArgument, settings: SetOption = None) -> None:
    """Measure accuracy, cost and latency of every depth profile (trains first where needed)."""
    _work(job, settings, _evaluate)


@app.command(rich_help_panel=PANEL)
def register(job: JobArgument, settings: SetOption = None) -> None:
    """Register the network with its profile table in MLflow (evaluates first where needed)."""
    _work(job, settings, _register)


@app.command(rich_help_panel=PANEL)
def report(job: JobArgument, settings: SetOption = None) -> None:
    """Make the page of a job anew, from what its folder and the registry hold now.

    Every job makes it at its end; since then there may be another champion, or baselines.
    """
    with exit_codes(), quiet(Path(os.devnull)) as console:
        with waiting(console, "making the report"):
            from pipeline.config import load_job
            from pipeline.report.publish import renew_report

            checked = load_job(job, settings or ())
            renew_report(checked)
        console.print(f"report: {JobFolder.of(checked).report}", highlight=False, soft_wrap=True)


@app.command(rich_help_panel=PANEL)
def init(
    path: Annotated[Path, typer.Argument(help="File to write")] = Path("job.yaml"),
    preset: Annotated[str, typer.Option(help=f"Values to start from: {', '.join(presets())}")] = "quickstart",
    settings: SetOption = None,
) -> None:
    """Write a commented job file with every key and its default."""
    with exit_codes():
        from pipeline.job_template import render_template

        if path.exists():
            raise RequestError(f"init never overwrites, {path} exists; name another file or remove it")
        path.write_text(render_template(preset, path=str(path), settings=settings or ()))
        Console().print(f"wrote {path}; next: edit it, then `skipline run {path}`", highlight=False)


def _work(source: str, settings: Sequence[str] | None, step: "Callable[[Job, Terminal], None]") -> None:
    """Check a job, then carry out a step with all foreign output in the job's log file."""
    with exit_codes():
        with quiet(Path(os.devnull)) as console, waiting(console, "checking the job"):
            # Asked before the imports that take seconds: a server that is silent is so meanwhile.
            await_server = ask_ahead(_tracking_uri(source, settings or ()))
            from pipeline.preflight import checked_job

            job = checked_job(source, settings or (), await_server=await_server)
        log_file = JobFolder.of(job).log_file
        with _naming(log_file), quiet(log_file) as console, Terminal(console) as terminal:
            step(job, terminal)


def _tracking_uri(source: str, settings: Sequence[str]) -> str:
    """Return where a job file that nobody has checked yet seems to be registered."""
    registry = read_job(source, settings).get("registry")
    named = registry.get("tracking_uri") if isinstance(registry, dict) else None
    return str(named or os.environ.get("MLFLOW_TRACKING_URI", ""))


def _tune(job: "Job", terminal: Terminal) -> None:
    from pipeline.search.verdict import describe_verdict
    from pipeline.steps import tune as search

    if job.search is None:
        raise RequestError(
            f"tune needs a search section, job {job.name!r} has none; add search: with space and epochs"
        )
    was_done = JobFolder.of(job).search_result.exists()
    with _opened(job, terminal) as session:
        result = search(session)
    if result is not None:
        if was_done:
            for line in describe_verdict(job, result):
                terminal.say(line)
        _print_trials(terminal.console, result)
        terminal.say(f"kept in {JobFolder.of(job).root}; next: skipline train with the same job")


def _train(job: "Job", terminal: Terminal) -> None:
    from pipeline.reporting import describe_epoch
    from pipeline.steps import train as train_network

    with _opened(job, terminal) as session:
        result = train_network(session)
    last = result.history[-1]
    terminal.say(f"trained {last.epoch} epochs: {describe_epoch(last.metrics)}")
    terminal.say(f"best checkpoint: {result.checkpoint}; next: skipline evaluate with the same job")


def _train_baselines(job: "Job", terminal: Terminal, *, num_seeds: int | None) -> None:
    from pipeline.baselines.step import train_baselines
    from pipeline.baselines.trainings import DEFAULT_SEEDS
    from pipeline.baselines.verdict import COLUMNS, describe_baselines, table_rows

    with _opened(job, terminal) as session:
        baselines = train_baselines(session, num_seeds=num_seeds or DEFAULT_SEEDS)
    title = f"{job.name}: depths of one network against networks of their own"
    print_table(terminal.console, COLUMNS, table_rows(baselines), title=title)
    for line in describe_baselines(baselines):
        terminal.say(line)
    folder = JobFolder.of(job)
    verb = "report" if folder.version.exists() else "register"
    terminal.say(f"kept in {folder.baselines_result}; next: skipline {verb} with the same job")


def _evaluate(job: "Job", terminal: Terminal) -> None:
    from pipeline.steps import evaluate as evaluate_network
    from pipeline.steps import report as make_report

    with _opened(job, terminal) as session:
        table = evaluate_network(session)
        make_report(session)
    print_profiles(terminal.console, table, title=f"{job.name}: every depth of one network")
    terminal.say(f"report: {JobFolder.of(job).report}; next: skipline register with the same job")


def _register(job: "Job", terminal: Terminal) -> None:
    from pipeline.steps import evaluate as evaluate_network
    from pipeline.steps import finished
    from pipeline.steps import register as register_network

    if done := finished(job):
        terminal.say(f"job {job.name!r} is finished already")
        _print_registered(job, terminal, *done)
        return
    with _opened(job, terminal) as session:
        version, table = register_network(session), evaluate_network(session)
    _print_registered(job, terminal, version, table)


@contextmanager
def _opened(job: "Job", terminal: Terminal) -> "Iterator[Session]":
    from pipeline.steps import opened

    with opened(job, terminal) as session:
        yield session


def _print_registered(
    job: "Job", terminal: Terminal, version: "RegisteredVersion", table: "ProfileTable"
) -> None:
    print_profiles(terminal.console, table, title=f"{job.name}: every depth of one network")
    where = (
        f" --tracking-uri {job.registry.tracking_uri}"
        if job.registry.tracking_uri
        else f" --storage {job.storage}"
    )
    folder = JobFolder.of(job)
    terminal.say(f"registered {version.uri}; checkpoints and results in {folder.root}")
    if folder.report.exists():
        terminal.say(f"report: {folder.report}")
    terminal.say(f"next: skipline profiles {version.uri}{where}")


def _print_trials(console: Console, result: "SearchResult") -> None:
    from pipeline.reporting import describe_values

    rows = [
        [
            str(trial.number + 1),
            "best" if trial == result.best else trial.outcome,
            f"{trial.score:.4f}",
            str(trial.epochs),
            describe_values(trial.values),
        ]
        for trial in result.trials
    ]
    print_table(
        console, ["trial", "", "score", "epochs", "settings"], rows, title="trials", prose=("settings",)
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
