"""Where output goes: consoles on what the command was given, everything else to a log file."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 140
"""In columns; a table in a log must not be cut."""


@dataclass(frozen=True)
class Streams:
    """Consoles on the output and the error stream that a command was started with."""

    output: Console
    errors: Console


def console_on(file: TextIO) -> Console:
    """Return a console that never cuts a table short because nobody says how wide it is.

    It writes to the file in a notebook, too, where Rich would make a display of every line.
    """
    width = None if file.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=file, width=width, force_jupyter=False)


@contextmanager
def diverted(log_file: Path) -> Iterator[Streams]:
    """Send all that this process and its children print to a log file; yields consoles on the real streams.

    Ray and MLflow write to the file descriptors from several processes and from C++, so these are redirected,
    not only Python's streams.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    real = [os.dup(1), os.dup(2)]
    with ExitStack() as stack:
        log = stack.enter_context(log_file.open("a"))
        output, errors = (stack.enter_context(os.fdopen(os.dup(number), "w")) for number in (1, 2))
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            with _logging_to_stderr():
                yield Streams(console_on(output), console_on(errors))
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
