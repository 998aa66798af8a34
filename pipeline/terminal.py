"""What a user sees: facts as lines, one progress bar, tables; everything else goes to the job's log file."""

import logging
import os
import sys
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pipeline.evaluation.table import ProfileTable

LINE_INTERVAL_S = 10.0
"""Without a terminal, progress is a line at most this often."""

WIDTH_WITHOUT_TERMINAL = 140
"""In columns; a table in a log must not be cut."""


class Terminal:
    """Reports a job to a console: a live bar where it is a terminal, plain lines where it is not."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # What others print is on its way to the log file, see `quiet`.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: tuple[str, TaskID] | None = None
        self._last_line_s = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a fact."""
        self._last_line_s = time.monotonic()
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def advance(self, what: str, done: float, total: float) -> None:
        """Show how far something is; another `what` replaces the bar."""
        if self.console.is_terminal:
            self._bar.update(self._task_of(what), completed=done, total=total)
        elif time.monotonic() - self._last_line_s >= LINE_INTERVAL_S:
            self.say(f"{what}: {done / total:.0%}")

    def _task_of(self, what: str) -> TaskID:
        if self._task is None or self._task[0] != what:
            if self._task is not None:
                self._bar.remove_task(self._task[1])
            self._task = (what, self._bar.add_task(what))
        return self._task[1]


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Show that something takes a while, until the block ends."""
    with Terminal(console) as terminal:
        terminal.advance(what, 0, 1)
        yield


def print_profiles(console: Console, table: ProfileTable, *, title: str) -> None:
    """Print a profile table with the conditions of its latencies."""
    caption = (
        f"{table.conditions}\n"
        "● Pareto: no other profile is at least as accurate and as cheap, and better in one"
    )
    print_table(console, table.columns(), table.rows(), title=title, caption=caption)


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str,
    caption: str = "",
    prose: Container[str] = (),
) -> None:
    """Print a table of text cells: the first two columns and those with prose, in lines, to the left."""
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        is_prose = column in prose
        table.add_column(column, justify="left" if index < 2 or is_prose else "right", no_wrap=not is_prose)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def console_on(file: TextIO) -> Console:
    """Return a console that never cuts a table short because nobody says how wide it is."""
    return Console(file=file, width=None if file.isatty() else WIDTH_WITHOUT_TERMINAL)


@contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Send all that this process and its children print to a log file; yields a console on the real output.

    Ray and MLflow write to the file descriptors from several processes and from C++, so these are redirected,
    not only Python's streams.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    real = [os.dup(1), os.dup(2)]
    with log_file.open("a") as log, os.fdopen(os.dup(1), "w") as output:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            with _logging_to_stderr():
                yield console_on(output)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, descriptor in enumerate(real, start=1):
                os.dup2(descriptor, target)
                os.close(descriptor)


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
