"""Looks at every node that workers may run on, from a process on it; without a cluster, at this machine."""

import os
import platform
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cluster.runtime import is_embedded
from pipeline.config import S3Config
from pipeline.data.sources import check_location

from .clock import judge_skew
from .findings import Doubt, NotNeededError, Problem
from .software import SHOWN, version_of
from .storage import storage_works

TIMEOUT_S = 60.0
"""How long nodes may take to answer: each starts a process that imports torch."""

MIN_DISK_BYTES, LOW_DISK_BYTES = 2**30, 10 * 2**30
"""Chosen: copies of data, checkpoints on their way and Ray's log files need some."""

LOW_SHARED_BYTES = 2**30
"""Chosen: images travel through it from the processes that load them; a container has 64 MiB by default."""

LOW_OPEN_FILES = 4096
"""Chosen: a search opens hundreds of connections; Ray advises 65,536 for a head node."""

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Node:
    """What a process on a node sees.

    Attributes:
        name: Of the node.
        versions: Of what has to be the same everywhere.
        time_s: Unix time by its clock.
        disk_bytes: Free where temporary files go.
        shared_bytes: Free in shared memory.
        open_files: That a process may have.
        data_problems: Why images cannot be read from there.
        storage_problem: Why results cannot be kept from there; empty where they can.
        peer_address: By which workers without GPUs elsewhere would reach those there; empty where unknown.
        skew_s: Between its clock and that of the machine that asks.
    """

    name: str
    versions: dict[str, str]
    time_s: float
    disk_bytes: int
    shared_bytes: int
    open_files: int
    data_problems: tuple[str, ...]
    storage_problem: str
    peer_address: str = ""
    skew_s: float = 0.0


@dataclass(frozen=True)
class Needs:
    """What a job needs on every node.

    Attributes:
        data: Locations of images.
        storage: Where it is kept.
        s3: How object stores are reached.
    """

    data: tuple[str, ...]
    storage: str
    s3: S3Config


def look_around(needs: Needs) -> Node:
    """Return what this process sees; runs on the node that is looked at."""
    data_problems = [problem for place in needs.data for problem in check_location(place, needs.s3)]
    return Node(
        name=socket.gethostname(),
        versions=_versions(),
        time_s=time.time(),
        disk_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
        shared_bytes=shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else 0,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        data_problems=tuple(data_problems),
        storage_problem=_storage_problem(needs),
        peer_address=_peer_address(),
    )


def _peer_address() -> str:
    """Return the address that Gloo takes, that of the host's name, where nobody has named an interface."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return ""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: version_of(name) or "none" for name in SHOWN}}


def _storage_problem(needs: Needs) -> str:
    try:
        storage_works(needs.storage, needs.s3)
    except Problem as problem:
        return problem.detail
    return ""


class Nodes:
    """The nodes of the cluster, looked at once for all checks.

    Args:
        needs: Of the job.
    """

    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    @cached_property
    def seen(self) -> list[Node]:
        """What each node sees; raises Problem where one does not answer."""
        if is_embedded():
            return [look_around(self._needs)]
        return _look_around_everywhere(self._needs)

    def reached(self) -> str:
        """Return which nodes answer."""
        return f"{len(self.seen)} node(s) answer: {', '.join(node.name for node in self.seen)}"

    def versions(self) -> str:
        """Compare what is installed."""
        ours = _versions()
        found = [
            f"{node.name} has {name} {node.versions[name]} (here {version})"
            for node in self.seen
            for name, version in ours.items()
            if node.versions[name] != version
        ]
        if found:
            raise Problem(
                "; ".join(found), "use one image, or the same pinned requirements, on all nodes and here"
            )
        return "the same everywhere: " + ", ".join(f"{name} {version}" for name, version in ours.items())

    def clocks(self) -> str:
        """Compare clocks."""
        worst = max(self.seen, key=lambda node: node.skew_s)
        return judge_skew(worst.skew_s, whose=f"node {worst.name}, the furthest")

    def data(self) -> str:
        """Return whether workers can read the images."""
        if not self._needs.data:
            raise NotNeededError("no job is given")
        problems = [f"{node.name}: {problem}" for node in self.seen for problem in node.data_problems]
        if problems:
            raise Problem(
                "; ".join(problems), "put the images where every node has them at the same path, or at s3://"
            )
        return f"{', '.join(self._needs.data)}: found from {len(self.seen)} node(s)"

    def storage(self) -> str:
        """Return whether workers can keep checkpoints."""
        problems = [f"{node.name}: {node.storage_problem}" for node in self.seen if node.storage_problem]
        if problems:
            raise Problem(
                "; ".join(problems),
                "name a folder that all nodes share and may write to, or s3://BUCKET/PREFIX",
            )
        return f"{self._needs.storage}: works from {len(self.seen)} node(s)"

    def peers(self) -> str:
        """Return whether workers without GPUs on one node can reach those on another."""
        if len(self.seen) == 1:
            raise NotNeededError("there is one node")
        local = [node.name for node in self.seen if node.peer_address.startswith("127.")]
        if local:
            raise Doubt(
                f"by the name of {', '.join(local)} workers without GPUs would reach themselves",
                "start Ray with GLOO_SOCKET_IFNAME set to the interface that leads to other nodes, or give "
                "the host's name its own address in /etc/hosts",
            )
        return "hosts' names have addresses that others can reach"

    def disks(self) -> str:
        """Judge the free space for temporary files."""
        fix = "make room there, or set TMPDIR, and --temp-dir of `ray start`, to a larger disk"
        return self._judge_room("disk", lambda node: node.disk_bytes, LOW_DISK_BYTES, MIN_DISK_BYTES, fix)

    def shared_memory(self) -> str:
        """Judge the free shared memory."""
        fix = (
            "give containers more: `docker run --shm-size 8g`, or an emptyDir with medium Memory at /dev/shm"
        )
        return self._judge_room("shared memory", lambda node: node.shared_bytes, LOW_SHARED_BYTES, 0, fix)

    def open_files(self) -> str:
        """Judge how many files a process may open."""
        least = min(self.seen, key=lambda node: node.open_files)
        seen = f"{least.open_files} open files a process at least ({least.name})"
        if least.open_files < LOW_OPEN_FILES:
            raise Doubt(seen, "raise it where Ray is started: `ulimit -n 65536`")
        return seen

    def _judge_room(self, what: str, of: Callable[[Node], int], low: int, too_low: int, fix: str) -> str:
        least = min(self.seen, key=of)
        seen = f"{of(least) / 2**30:.1f} GiB of {what} free at least ({least.name})"
        if of(least) < too_low:
            raise Problem(seen, fix)
        if of(least) < low:
            raise Doubt(seen, fix)
        return seen


def _look_around_everywhere(needs: Needs) -> list[Node]:
    """Run a process on every node of the cluster that RAY_ADDRESS names; they answer at the same time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.runtime import connected

    with connected():
        start_s = time.time()
        look = ray.remote(num_cpus=0, max_retries=0)(look_around)
        tasks = {}
        for node in ray.nodes():
            if node["Alive"]:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                tasks[look.options(scheduling_strategy=place).remote(needs)] = node["NodeManagerAddress"]
        _, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=TIMEOUT_S)
        end_s = time.time()
        if late:
            silent = ", ".join(tasks[task] for task in late)
            raise Problem(
                f"no process on {silent} answered within {TIMEOUT_S:g} s",
                "see the node's state in the dashboard, and raylet.err in its log folder",
            )
        try:
            nodes = ray.get(list(tasks))
        except ray.exceptions.RayError as error:
            raise Problem(
                f"a process on a node failed ({str(error).strip().splitlines()[-1]})",
                "install Skipline on every node, as here",
            ) from error
    return [replace(node, skew_s=max(start_s - node.time_s, node.time_s - end_s, 0.0)) for node in nodes]
