"""`skipline VERB`: parse, call one function, print.

Exit codes: 0 done, 1 the job failed, 2 the request was wrong and nothing was started. What is slow to import
is imported where it is used, so that `--help` answers at once.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from pipeline.config import presets
from pipeline.errors import RequestError, SkiplineError
from pipeline.folder import JobFolder
from pipeline.terminal import Terminal, print_profiles, print_table, quiet, waiting

if TYPE_CHECKING:
    from pipeline.config import Job
    from pipeline.evaluation.table import ProfileTable
    from pipeline.networks.adaptive import Split
    from pipeline.registry.register import RegisteredVersion
    from pipeline.search.result import SearchResult
    from pipeline.steps import Session

TELEMETRY_OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Set unless the user has set them: third parties learn nothing by default."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "One training, 2^N depths, one registered model.\n\n"
        "A job file names images, a timm backbone and a recipe. [bold]skipline run JOB[/] searches where the "
        "stages are split, trains one network by self-distillation, measures every depth profile and "
        "registers the result in MLflow. A command that was ended, given again, goes on where it was.\n\n"
        "Start with: [bold]skipline run quickstart[/]"
    ),
)
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job file, or a preset's name (quickstart).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.epochs=3; repeatable."),
]


@app.command()
def run(job: JobArgument, settings: SetOption = None) -> None:
    """Do all of a job: tune, train, evaluate, register."""
    _work(job, settings, _register)


@app.command()
def tune(job: JobArgument, settings: SetOption = None) -> None:
    """Search split points and recipe, and keep the best settings for `train`."""
    _work(job, settings, _tune)


@app.command()
def train(job: JobArgument, settings: SetOption = None) -> None:
    """Train the network for all its epochs, with the best trial's settings (tunes first where needed)."""
    _work(job, settings, _train)


@app.command()
def evaluate(job: JobArgument, settings: SetOption = None) -> None:
    """Measure accuracy, cost and latency of every depth profile (trains first where needed)."""
    _work(job, settings, _evaluate)


@app.command()
def register(job: JobArgument, settings: SetOption = None) -> None:
    """Register the network with its profile table in MLflow (evaluates first where needed)."""
    _work(job, settings, _register)


@app.command()
def profiles(
    model_uri: Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS")],
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; default: the embedded store")
    ] = None,
    storage: Annotated[Path, typer.Option(help="Folder of the embedded store")] = Path("runs"),
) -> None:
    """Print the profile table of a registered model version."""
    with _exit_codes(), quiet(Path(os.devnull)) as console:
        with waiting(console, "reading the registry"):
            from pipeline.registry.store import embedded_uri
            from pipeline.registry.versions import read_profile_table

            table = read_profile_table(tracking_uri or embedded_uri(storage), model_uri)
        print_profiles(console, table, title=model_uri)


@app.command()
def backbones(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Part of a name or timm class, or a glob such as 'convnext*'; without it: the families"
        ),
    ] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="List the models that are not supported, and why")
    ] = False,
) -> None:
    """List the timm models that become adaptive depth networks, with their costs."""
    with _exit_codes():
        from pipeline.backbone_list import REASON, list_backbones
        from pipeline.catalogue import load_catalogue
        from pipeline.terminal import console_on

        catalogue = load_catalogue()
        table = list_backbones(catalogue, pattern, refused=refused)
        note = "" if catalogue.is_current else f" (tried with timm {catalogue.timm_version})"
        print_table(
            console_on(sys.stdout),
            table.columns,
            table.rows,
            title=table.title + note,
            caption=table.caption,
            prose=(REASON,),
        )


@app.command()
def inspect(
    backbone: Annotated[str, typer.Argument(help="timm model name, such as resnet50")],
    image_size: Annotated[int | None, typer.Option(help="Pixels; default: the backbone's own")] = None,
    small_images: Annotated[
        bool, typer.Option("--small-images", help="3x3 stem for 32-pixel images")
    ] = False,
    stages: Annotated[
        int | None,
        typer.Option(help="Virtual stages of a backbone whose blocks are all alike, such as a ViT"),
    ] = None,
    split: Annotated[str, typer.Option(help="'paper', or mandatory blocks a stage: 2,2,3,2")] = "paper",
    kwargs: Annotated[
        list[str] | None,
        typer.Option("--kwarg", metavar="KEY=VALUE", help="timm argument; repeatable"),
    ] = None,
) -> None:
    """Print stages, blocks, split and the cost of every profile, without training anything."""
    with _exit_codes(), quiet(Path(os.devnull)) as console:
        points: Split = "paper" if split == "paper" else yaml.safe_load(f"[{split}]")
        pairs = (setting.partition("=") for setting in kwargs or [])
        with waiting(console, "building the backbone's shapes"):
            from pipeline.inspection import inspect_backbone

            report = inspect_backbone(
                backbone,
                image_size=image_size,
                small_images=small_images,
                num_stages=stages,
                split=points,
                kwargs={key: yaml.safe_load(value) for key, _, value in pairs},
            )
        console.print(report.summary, highlight=False)
        print_table(console, report.stage_columns, report.stage_rows, title="stages")
        print_table(console, report.profile_columns, report.profile_rows, title="depth profiles")


@app.command()
def space(
    name: Annotated[
        str, typer.Argument(metavar="SPACE", help="A YAML file, or the name of a shipped space.")
    ],
    backbone: Annotated[str, typer.Option(help="timm model name, such as resnet50")],
    settings: SetOption = None,
) -> None:
    """Print what a search would draw for a backbone: every parameter, its range, and how many designs."""
    with _exit_codes(), quiet(Path(os.devnull)) as console:
        with waiting(console, "building the backbone's shapes"):
            from pipeline.space_report import inspect_space

            report = inspect_space(name, backbone=backbone, settings=settings or ())
        console.print(report.summary, highlight=False)
        print_table(console, report.columns, report.rows, title="parameters")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write")] = Path("job.yaml"),
    preset: Annotated[str, typer.Option(help=f"Values to start from: {', '.join(presets())}")] = "quickstart",
) -> None:
    """Write a commented job file with every key and its default."""
    with _exit_codes():
        from pipeline.job_template import render_template

        if path.exists():
            raise RequestError(f"init never overwrites, {path} exists; name another file or remove it")
        path.write_text(render_template(preset, path=str(path)))
        Console().print(f"wrote {path}; next: edit it, then `skipline run {path}`", highlight=False)


def main() -> None:
    """Run the command line."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _work(source: str, settings: Sequence[str] | None, step: "Callable[[Job, Terminal], None]") -> None:
    """Check a job, then carry out a step with all foreign output in the job's log file."""
    with _exit_codes():
        with quiet(Path(os.devnull)) as console, waiting(console, "checking the job"):
            from pipeline.preflight import checked_job

            job = checked_job(source, settings or ())
        log_file = JobFolder.of(job).log_file
        with _naming(log_file), quiet(log_file) as console, Terminal(console) as terminal:
            step(job, terminal)


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


def _evaluate(job: "Job", terminal: Terminal) -> None:
    from pipeline.steps import evaluate as evaluate_network

    with _opened(job, terminal) as session:
        table = evaluate_network(session)
    print_profiles(terminal.console, table, title=f"{job.name}: every depth of one network")
    terminal.say("next: skipline register with the same job")


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
    terminal.say(f"registered {version.uri}; checkpoints and results in {JobFolder.of(job).root}")
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


@contextmanager
def _exit_codes() -> Iterator[None]:
    """End the process with the code and the message that an error stands for."""
    errors = Console(stderr=True)
    try:
        yield
    except RequestError as error:
        for problem in error.problems:
            errors.print(f"[red]error:[/] {escape(problem)}", highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except SkiplineError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, SystemExit) as error:
        errors.print("stopped; the same command goes on from here", highlight=False)
        raise typer.Exit(1) from error
