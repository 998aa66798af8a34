"""A run whose only worker moves from one node to another; run as a script with three empty folders.

The nodes are two of one machine, each with a folder of its own for temporary files.
"""

import sys
import tempfile
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from training_under_test import save_data, tiny_job

from pipeline.storage import StoragePath
from pipeline.training.checkpoint_staging import staging_prefix
from pipeline.training.plan import plan_training
from pipeline.training.trainer import run_training


@ray.remote(num_cpus=1)
class Holder:
    """Leaves no room on a node."""


def main(storage: Path, first_tmp: Path, second_tmp: Path) -> None:
    """Train an epoch on one node and the next one on another; the first has a folder of a killed worker."""
    data = save_data(storage)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    first = cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(first_tmp)})
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        _train(1, data, storage)
        Path(tempfile.mkdtemp(prefix=staging_prefix(data, "run"), dir=first_tmp))
        cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(second_tmp)})
        place = NodeAffinitySchedulingStrategy(first.node_id, soft=False)
        holder = Holder.options(scheduling_strategy=place).remote()
        ray.get(holder.__ray_ready__.remote())
        _train(2, data, storage)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _train(epochs: int, data: StoragePath, storage: Path) -> None:
    plan = plan_training(tiny_job(epochs=epochs, warmup_epochs=0, batch_size=256), data)
    run_training(plan, name="run", storage=StoragePath.local(storage), on_progress=lambda _: None)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
