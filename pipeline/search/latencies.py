"""How long every block of the backbones of a search takes, measured once before its first trial.

Trials share the machine, so a latency that one of them measured would say how busy it was.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import torch

from cluster.runtime import run_remotely
from pipeline.config import Job
from pipeline.networks.cost import BlockLatencies, measure_block_latencies
from pipeline.storage import StoragePath
from pipeline.training.plan import describe_network
from pipeline.training.trainer import resources_per_worker
from search_spaces.keys import BACKBONE, SPLIT

FILE_NAME = "latencies.json"


def measured_latencies(
    job: Job, backbones: Iterable[str], *, folder: StoragePath
) -> Mapping[str, BlockLatencies]:
    """Return the latencies of some backbones, from the sweep's folder or measured on a worker and put there.

    Args:
        job: Whose images, batch size of a call and number of calls.
        backbones: Names; each is built as the job says.
        folder: Of the sweep.
    """
    if not (folder / FILE_NAME).exists():
        found = {}
        for name in backbones:
            its_job = job.override({BACKBONE: name, SPLIT: "paper"})
            found[name] = run_remotely(measure_backbone, resources_per_worker(job.training), its_job)
        text = json.dumps({name: asdict(latencies) for name, latencies in found.items()}, indent=1)
        (folder / FILE_NAME).write_text(text)
    return stored_latencies(folder)


def stored_latencies(folder: StoragePath) -> Mapping[str, BlockLatencies]:
    """Return the latencies in a sweep's folder by backbone; none where they were not needed."""
    file = folder / FILE_NAME
    if not file.exists():
        return {}
    return {name: BlockLatencies(**one) for name, one in json.loads(file.read_text()).items()}


def measure_backbone(job: Job) -> BlockLatencies:
    """Measure a job's backbone where this runs: on its GPU if the job uses one, else on its CPUs."""
    torch.set_num_threads(job.training.num_threads)
    device = torch.device("cuda" if job.training.use_gpu else "cpu")
    network = describe_network(job, num_classes=2).build().to(device).eval()
    images = torch.rand(job.evaluation.latency_batch_size, *network.input_shape, device=device)
    return measure_block_latencies(network, images, num_runs=job.evaluation.latency_runs)
