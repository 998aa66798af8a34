"""How a job is told on a terminal: facts scroll, and below them one view is drawn anew."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
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

from .sweep_view import Size, render_sweep

if TYPE_CHECKING:
    from pipeline.search.sweep import SweepStatus

DRAWINGS_A_SECOND = 2
"""Chosen: a spinner turns, and a core has other work to do; drawing a sweep takes it some 15 ms."""


class LiveView:
    """Reports a job to a terminal: a bar, or while trials run where their sweep is.

    Args:
        console: On a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._look: Callable[[], SweepStatus] | None = None
        self._task: tuple[str, TaskID] | None = None
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            auto_refresh=False,
        )
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=DRAWINGS_A_SECOND,
            transient=True,
            # What others print is on its way to the log file, see `diverted`.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a fact, above the view."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def advance(self, what: str, done: float, total: float, note: str = "") -> None:
        """Show how far something is; another `what` replaces the bar."""
        self._bar.update(self._task_of(what), completed=done, total=total, note=note)

    @contextmanager
    def showing(self, look: "Callable[[], SweepStatus]") -> Iterator[None]:
        """Show a sweep, asked for as often as it is drawn, until the block ends."""
        self._remove_bar()
        self._look = look
        self._live.refresh()
        try:
            yield
        finally:
            self._look = None

    def _task_of(self, what: str) -> TaskID:
        if self._task is None or self._task[0] != what:
            self._remove_bar()
            self._task = (what, self._bar.add_task(what, note=""))
        return self._task[1]

    def _remove_bar(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task[1])
            self._task = None

    def _render(self) -> RenderableType:
        look = self._look
        if look is None:
            return self._bar
        size = Size(self._console.width, self._console.height)
        return Group(render_sweep(look(), size=size, now_s=time.time()), self._bar)
