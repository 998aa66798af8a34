"""Connecting to Ray: an embedded instance on this machine, or the cluster that RAY_ADDRESS names.

Nothing here schedules or retries; it says what there is and hands over to Ray.
"""

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import ray

from pipeline.environment import variables

from .growth import GROWS_TO, promised_nodes

P = ParamSpec("P")
T = TypeVar("T")

OBJECT_STORE_BYTES = 256 * 2**20
"""Of an embedded instance; images do not pass through it."""

LOOPBACK = "127.0.0.1"

DEFAULT_PORT = 6379
"""Of a head node."""

TIMEOUT_S = 5.0
"""How long a head node may take to accept a connection."""

WAY_OUT = "start the head node (`ray start --head`), correct RAY_ADDRESS, or unset it for this machine"
"""Of a silent one."""

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A report waits for the controller's next poll; the default of 2 s would be most of a short epoch.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "1800",
    # Of one attempt: the next one counts anew which nodes there are. How long a job waits is its own affair.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Nothing is read from Tune's snapshots, and each costs as much as there are trials.
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    # Tune would print tables to a terminal that is not its own.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Otherwise an interrupted search returns as if it had ended.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Relative paths of a job file mean the folder in which the command was typed.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Environment that Ray reads; what is set already is kept."""


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of every node that a job can use; a worker has to fit on one node."""

    nodes: tuple[tuple[int, int], ...]

    def places(self, *, cpus: int, gpus: int) -> int:
        """Return how many workers of that size fit at the same time."""
        return sum(
            min(node_cpus // cpus, node_gpus // gpus if gpus else node_cpus // cpus)
            for node_cpus, node_gpus in self.nodes
        )

    def __str__(self) -> str:
        nodes = ", ".join(f"{cpus} CPUs and {gpus} GPUs" for cpus, gpus in self.nodes)
        return f"{len(self.nodes)} node(s) with {nodes}"


def is_embedded() -> bool:
    """Return whether Ray runs inside this command, on this machine."""
    return not os.environ.get("RAY_ADDRESS")


def silence() -> str | None:
    """Return why nobody answers at RAY_ADDRESS, None if somebody does or Ray is embedded."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local", "auto"):
        return None
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((place.hostname, place.port or DEFAULT_PORT), timeout=TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return f"nobody answers at RAY_ADDRESS={address} ({error})"
    return None


def capacity() -> Capacity:
    """Return what the cluster has, connected to for a moment where it is not, or what this machine has."""
    if not ray.is_initialized():
        if is_embedded():
            return Capacity(((len(os.sched_getaffinity(0)), _num_local_gpus()),))
        with connected():
            return capacity()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Capacity(tuple((int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes))


def growth() -> Capacity:
    """Return the nodes that the cluster's autoscaler may start; none where nobody says that there is one."""
    promise = os.environ.get(GROWS_TO)
    return Capacity(promised_nodes(promise) if promise and not is_embedded() else ())


def _num_local_gpus() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def connected() -> Iterator[None]:
    """Hold a connection to Ray; an embedded instance ends with the block."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    with _own_sigterm_handler():
        _connect()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Put back what SIGTERM does when the block ends: Ray's handler would end the process in the middle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _connect() -> None:
    if not is_embedded():
        ray.init()
        return
    # Ray listens on every interface, so whoever connects has to know a token; Ray asks for it by default.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    port = _free_port()
    with variables({"RAY_GCS_SERVER_PORT": str(port)}):
        ray.init(
            # The dashboard carries the State API, without which a stopped trial never gives its CPUs back.
            # Workers are told the address, or they could not tell this instance from another on the same
            # machine.
            include_dashboard=True,
            dashboard_host=LOOPBACK,
            runtime_env={"env_vars": {"RAY_ADDRESS": f"{LOOPBACK}:{port}"}},
            object_store_memory=OBJECT_STORE_BYTES,
            num_cpus=len(os.sched_getaffinity(0)),
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def run_remotely(
    function: Callable[P, T], resources: Mapping[str, float], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a function on a node of the cluster and return what it returns.

    Args:
        function: Importable wherever it runs.
        resources: `CPU` and `GPU` to reserve.
        *args: Handed over by pickle.
        **kwargs: Likewise.
    """
    task = ray.remote(num_cpus=resources.get("CPU", 0), num_gpus=resources.get("GPU", 0))(function)
    result: T = ray.get(task.remote(*args, **kwargs))
    return result
