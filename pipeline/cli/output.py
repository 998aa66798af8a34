"""How a verb speaks: of its progress while it works, then one answer, for people or as JSON.

With `--json` the output stream holds one JSON document, or nothing where the verb fails: progress goes to the
error stream, as errors do. `--quiet` leaves out progress and advice. Exit codes are the same in any case.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.reporter import Reporter, Silent
from pipeline.terminal import Streams, console_on, diverted, reporting_on

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; progress goes to the error stream")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors, nothing else")]


@dataclass(frozen=True)
class Output:
    """Where a verb's words go.

    Attributes:
        streams: The command's own.
        as_json: Whether the answer is for machines.
        is_quiet: Whether nothing but the answer is wanted.
    """

    streams: Streams
    as_json: bool = False
    is_quiet: bool = False

    @property
    def _aside(self) -> Console:
        return self.streams.errors if self.as_json else self.streams.output

    @property
    def console(self) -> Console:
        """For the answer."""
        return self.streams.output

    @contextmanager
    def reporting(self) -> Iterator[Reporter]:
        """Yield what tells how a verb comes on, until the block ends."""
        if self.is_quiet:
            yield Silent()
            return
        with reporting_on(self._aside) as reporter:
            yield reporter

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show that something takes a while, until the block ends."""
        with self.reporting() as reporter:
            reporter.advance(what, 0, 1)
            yield

    def print(self, text: str) -> None:
        """Print a sentence of the answer."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """Print a sentence that is not the answer, such as what may come next."""
        if not self.is_quiet:
            self._aside.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a sentence on the error stream."""
        self.streams.errors.print(escape(text), highlight=False, soft_wrap=True)

    def pass_on(self, text: str) -> None:
        """Write what others printed, as it is; it is not the answer either."""
        if not self.is_quiet:
            self._aside.file.write(text)
            self._aside.file.flush()

    def print_json(self, data: Any) -> None:  # noqa: ANN401
        """Print the answer as JSON."""
        self.console.print_json(json.dumps(data))


@contextmanager
def speaking(
    *, as_json: bool = False, is_quiet: bool = False, log_file: Path = Path(os.devnull)
) -> Iterator[Output]:
    """Yield a verb's output until the block ends; what others print goes to a log file."""
    with diverted(log_file) as streams:
        yield Output(streams, as_json, is_quiet)


def direct_output(*, as_json: bool = False, is_quiet: bool = False) -> Output:
    """Return the output of a verb beside which nobody else prints."""
    return Output(Streams(console_on(sys.stdout), console_on(sys.stderr)), as_json, is_quiet)
