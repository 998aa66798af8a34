"""How a command ends when it is told to: at the first signal in its own way, at the second at once.

Ray Train and Tune put handlers of their own in the place of Python's while they work, and these ignore a
second Ctrl-C. So signals are also heard by a thread, whoever handles them.
"""

import os
import signal
import socket
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import FrameType

SAME_S = 0.5
"""Signals within this time are one: a terminal tells a command and what started it, which passes it on.
Chosen."""

_passed_on = threading.Semaphore(0)
"""Counts signals that this process sent itself because of another, whenever it came to that."""

_SHOW_CURSOR = b"\x1b[?25h"
_FAREWELL = b"ended at once; the same command goes on from here\n"


def listen_for_signals() -> None:
    """Let SIGTERM do what Ctrl-C does, and a second one of either end the process.

    A shell script has SIGINT ignored in what it starts in the background, where a job has to end well, too.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    signal.set_wakeup_fd(mouth.detach(), warn_on_full_buffer=False)
    # Later, what is printed goes to a log file.
    error = os.dup(2)
    threading.Thread(target=_end_at_second, args=(ear, error), name="signals", daemon=True).start()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Do what Ctrl-C does at this moment: Ray Train stops a training in its own way."""
    _passed_on.release()
    signal.raise_signal(signal.SIGINT)


def _end_at_second(ear: socket.socket, error: int) -> None:
    """End the process at the second signal, with all that it has started.

    Left alone, agents of an embedded Ray live on for a minute (measured, Ray 2.60).
    """
    first_s: float | None = None
    while number := ear.recv(1):
        is_own = number[0] == signal.SIGINT and _passed_on.acquire(blocking=False)
        if is_own or number[0] not in (signal.SIGINT, signal.SIGTERM):
            continue
        if first_s is None:
            first_s = time.monotonic()
        elif time.monotonic() - first_s > SAME_S:
            for process in _descendants():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            os.write(error, (_SHOW_CURSOR if os.isatty(error) else b"") + _FAREWELL)
            os._exit(1)


def _descendants() -> list[int]:
    """Return the processes below this one, parents first; none where there is no /proc."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            _, _, facts = (folder / "stat").read_text().rpartition(")")
            children[int(facts.split()[1])].append(int(folder.name))
    found = [os.getpid()]
    for process in found:
        found += children[process]
    return found[1:]
