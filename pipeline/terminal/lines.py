"""How a job is told where there is no terminal: facts as lines, and now and then how far it is."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pipeline.search.sweep import SweepStatus

LINE_INTERVAL_S = 10.0
"""How far something is is told at most this often; chosen."""


class Lines:
    """Reports a job as plain lines.

    Args:
        console: Where they are printed.
        interval_s: Between two lines about how far something is.
    """

    def __init__(self, console: Console, *, interval_s: float = LINE_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._last_line_s = time.monotonic()
        self._last_progress = ""

    def say(self, text: str) -> None:
        """Print a fact."""
        self._last_line_s = time.monotonic()
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def advance(self, what: str, done: float, total: float, note: str = "") -> None:  # noqa: ARG002
        """Print how far something is, unless that was said; its beginning is no news."""
        if done <= 0 or time.monotonic() - self._last_line_s < self._interval_s:
            return
        progress = f"{what}: {done / total:.0%}"
        if progress != self._last_progress:
            self._last_progress = progress
            self.say(progress)

    def showing(self, look: "Callable[[], SweepStatus]") -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nothing: what trials bring is said in lines."""
        return nullcontext()
