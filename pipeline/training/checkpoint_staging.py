"""Local folders in which rank 0 writes a checkpoint before Ray uploads it.

Ray deletes them itself. Those of killed workers are deleted by the workers that come after them: on every
machine that trains, and on machines that rank 0 was on before and that still belong to the cluster.
"""

import json
import logging
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

import ray
from ray import train
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.storage import StoragePath

from .session import Session

MACHINES = "staging_machines.json"
"""Ray's ids of the nodes that rank 0 was on, in the run's folder."""
CLEARING_S = 20.0
"""How long a start waits for machines that do not train any more; chosen."""

log = logging.getLogger(__name__)


def new_staging(session: Session) -> Path:
    """Return a new folder of this run on this machine."""
    return Path(tempfile.mkdtemp(prefix=_prefix_of(session)))


def clear_staging(session: Session) -> None:
    """Delete what killed workers of this run have left; to be called on all ranks before the first step."""
    if train.get_context().get_local_rank() == 0:
        _clear(_prefix_of(session))
    if session.rank == 0 and ray.is_initialized():  # Ray Train can also run a worker in its own process
        here = ray.get_runtime_context().get_node_id()
        machines = session.run / MACHINES
        before: list[str] = json.loads(machines.read_text()) if machines.exists() else []
        _clear_elsewhere(_prefix_of(session), machines=set(before) - {here})
        if here not in before:
            machines.write_text(json.dumps([*before, here]))


def staging_prefix(data: StoragePath, name: str) -> str:
    """Return how the names of a run's folders begin, on any machine: by its data plan and its name."""
    return f"skipline-{sha256(f'{data}|{name}'.encode()).hexdigest()[:12]}-"


def _prefix_of(session: Session) -> str:
    return staging_prefix(session.plan.data, train.get_context().get_experiment_name())


def _clear(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _clear_elsewhere(prefix: str, *, machines: set[str]) -> None:
    """Clear other machines of the cluster, at the same time; one that does not answer is left alone."""
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    clear = ray.remote(num_cpus=0, max_retries=0)(_clear)
    tasks = [
        clear.options(scheduling_strategy=NodeAffinitySchedulingStrategy(machine, soft=False)).remote(prefix)
        for machine in machines & alive
    ]
    if tasks:
        _, late = ray.wait(tasks, num_returns=len(tasks), timeout=CLEARING_S)
        for task in late:  # Later it would delete what this run writes next, where machines share a disk.
            ray.cancel(task)
            log.warning("a machine that rank 0 was on did not answer, old local checkpoints may be there")
