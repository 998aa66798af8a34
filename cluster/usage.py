"""What of a Ray cluster is reserved right now, without waiting for it."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

LOOK_INTERVAL_S = 5.0
"""Between two looks at the cluster; chosen."""


@dataclass(frozen=True)
class Usage:
    """CPUs and GPUs that Ray has reserved for somebody, and how many there are."""

    used_cpus: float
    cpus: float
    used_gpus: float
    gpus: float

    def __str__(self) -> str:
        gpus = f", {self.used_gpus:g} of {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.used_cpus:g} of {self.cpus:g} CPUs{gpus}"


def read_usage() -> Usage:
    """Ask Ray what is reserved."""
    has, free = ray.cluster_resources(), ray.available_resources()
    cpus, gpus = has.get("CPU", 0.0), has.get("GPU", 0.0)
    # Drivers of trials reserve hundredths.
    used_cpus, used_gpus = (
        round(total - free.get(name, 0.0), 1) for name, total in (("CPU", cpus), ("GPU", gpus))
    )
    return Usage(used_cpus, cpus, used_gpus, gpus)


class UsageWatch:
    """Knows what was reserved a few seconds ago.

    A Ray whose control store is away does not answer; then the last answer stays.
    """

    def __init__(self) -> None:
        self._latest: Usage | None = None
        self._next_look_s = 0.0
        self._thread: threading.Thread | None = None

    def latest(self) -> Usage | None:
        """Return the last answer at once, None before the first; asks for the next one if it is time."""
        is_asking = self._thread is not None and self._thread.is_alive()
        if not is_asking and time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_INTERVAL_S
            self._thread = threading.Thread(target=self._look, name="cluster-usage", daemon=True)
            self._thread.start()
        return self._latest

    def _look(self) -> None:
        with suppress(RayError, ConnectionError, OSError):
            self._latest = read_usage()
