"""Which way of telling suits a console."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from pipeline.reporter import Reporter

from .lines import Lines
from .live import LiveView


@contextmanager
def reporting_on(console: Console) -> Iterator[Reporter]:
    """Yield what reports to a console: a live view where it is a terminal, plain lines where it is not."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with LiveView(console) as view:
        yield view
