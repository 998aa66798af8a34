"""What all verbs share: the application, options, exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.errors import RequestError, SkiplineError

from .completion import complete_setting

app = typer.Typer(
    no_args_is_help=True,
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
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, such as training.epochs=3; repeatable.",
        autocompletion=complete_setting,
    ),
]


@contextmanager
def exit_codes() -> Iterator[None]:
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
