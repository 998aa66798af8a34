"""Ends a command whose embedded Ray has lost a daemon: what it waits for would never come.

Without a raylet nobody starts the processes that a driver waits for, without a dashboard nobody gives back
the places of stopped trials. A driver whose GCS was killed is ended by Ray after a minute, without a word to
the user, and calls such as `ray.nodes` that ask for it cannot be interrupted before (measured, Ray 2.60). So
it is the process that ends.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray._private import worker as ray_worker

NEEDED = ("gcs_server", "raylet", "dashboard")
"""The others, such as the log monitor, are no loss to a job."""
INTERVAL_S = 1.0
"""Between two looks; chosen."""


@contextmanager
def daemons_watched(on_loss: Callable[[str], None]) -> Iterator[None]:
    """Until the block ends, end this process with code 1 once a daemon that it started has ended.

    Args:
        on_loss: Told before, in a thread, which daemon it was and how it ended.
    """
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(INTERVAL_S):
            if loss := lost_daemon():
                try:
                    on_loss(loss)
                finally:
                    end_process()

    thread = threading.Thread(target=watch, name="ray-daemons", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()


def lost_daemon() -> str | None:
    """Return which daemon of the embedded Ray has ended and how, None if all live or Ray runs elsewhere."""
    # Ray has no public word for the processes that it started.
    node = ray_worker._global_node
    for name, process in node.dead_processes() if node else ():
        if name in NEEDED:
            return f"{name} ended with {process.returncode}"
    return None


def end_process() -> None:
    """End this process and the daemons that are left; what these started ends within a minute (measured)."""
    for _, process in ray_worker._global_node.live_processes():
        process.kill()
    os._exit(1)
