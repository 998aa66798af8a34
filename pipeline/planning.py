"""What a job will do, said before it does it: what runs where, what it reads and writes, what it costs.

Nothing is trained, registered or stored. The one thing that takes seconds is a probe: a few steps of the
job's own network on this machine's CPU.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from cluster.runtime import capacity, growth
from pipeline.config import Job
from pipeline.data.sources import open_source
from pipeline.folder import JobFolder
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.recipe import TrainingConfig
from pipeline.registry.masking import mask_credentials
from pipeline.registry.store import tracking_uri
from pipeline.search.driver import max_concurrent_trials
from pipeline.storage.object_store import is_s3
from pipeline.training.plan import describe_network, shape_of
from pipeline.training.step import SelfDistillation

BACKWARD_SHARE = 2
"""A backward pass costs about twice the multiply-adds of its forward pass."""

PROBE_S, MIN_PROBE_STEPS, MAX_PROBE_STEPS = 5.0, 2, 20
"""Of the probe; chosen: one that takes longer is not asked for twice."""

MAX_PROBE_IMAGES, MAX_PROBE_STEP_MACS = 32, 1e11
"""Of one step; chosen: a core multiplies that in two to four seconds."""

PREFIXES = ((1e18, "exa"), (1e15, "peta"), (1e12, "tera"), (1e9, "giga"))
"""Of multiply-adds; the last one also for less."""


@dataclass(frozen=True)
class Workload:
    """How many images a job runs through its networks.

    Attributes:
        training: In the final training, once for each epoch.
        search: In all trials together, where none is stopped.
    """

    training: int
    search: int

    @classmethod
    def of(cls, job: Job, num_images: int) -> "Workload":
        """Return the workload of a job.

        Args:
            job: Its settings.
            num_images: That it trains with.
        """
        search = job.search
        in_trials = 0 if search is None else search.trials * search.epochs * search.data_fraction * num_images
        return cls(job.training.epochs * num_images, math.ceil(in_trials))


@dataclass(frozen=True)
class Probe:
    """What a training step took on this machine.

    Attributes:
        image_s: Seconds an image, forward and backward, whole network and base.
        num_threads: That computed it.
    """

    image_s: float
    num_threads: int

    def worker_hours(self, num_images: int) -> float:
        """Return the hours that one worker like this machine would need; several share them."""
        return num_images * self.image_s / 3600


def step_macs(network: AdaptiveDepthNetwork) -> int:
    """Return the multiply-adds of one training step for one image: whole network and base, there and back."""
    return (1 + BACKWARD_SHARE) * sum(network.cost(profile).macs for profile in network.extremes)


def probe(job: Job, on_progress: Callable[[float, float], None]) -> Probe:
    """Time training steps of a job's network on random images, as one worker would compute them on a CPU.

    Args:
        job: Its settings.
        on_progress: Told seconds, of how many.
    """
    threads_before, num_threads = torch.get_num_threads(), job.training.cpus_per_worker
    torch.set_num_threads(num_threads)
    try:
        times_s = list(_steps_s(job, on_progress))
    finally:
        torch.set_num_threads(threads_before)
    return Probe(statistics.median(times_s), num_threads)


def _steps_s(job: Job, on_progress: Callable[[float, float], None]) -> Iterator[float]:
    """Yield the seconds an image of steps, the first one left out."""
    network = describe_network(job, num_classes=10).build().train()
    step = SelfDistillation(network, job.distillation.model_copy(update={"teacher": None}), _cross_entropy)
    _, base = network.extremes
    num_images = _num_probe_images(job.training, network)
    images_BCHW = torch.rand(num_images, *network.input_shape)
    labels_B = torch.zeros(num_images, dtype=torch.long)
    start_s = time.perf_counter()
    for number in range(MAX_PROBE_STEPS + 1):
        before_s = time.perf_counter()
        step(images_BCHW, labels_B, [base]).backward()
        elapsed_s = time.perf_counter() - start_s
        if number:
            yield (time.perf_counter() - before_s) / num_images
        on_progress(min(elapsed_s, PROBE_S), PROBE_S)
        if number >= MIN_PROBE_STEPS and elapsed_s > PROBE_S:
            return


_cross_entropy = nn.CrossEntropyLoss(reduction="none")


def _num_probe_images(recipe: TrainingConfig, network: AdaptiveDepthNetwork) -> int:
    """Return at least two, which batch norm needs where a stage leaves one pixel."""
    quick = int(MAX_PROBE_STEP_MACS // step_macs(network))
    return max(2, min(MAX_PROBE_IMAGES, recipe.micro_batch_size // recipe.workers, quick))


def describe_plan(
    job: Job,
    *,
    images: int | None,
    with_probe: bool,
    on_progress: Callable[[str, float, float], None],
) -> list[tuple[str, str]]:
    """Return what a job will do: rows of a subject and a fact.

    Args:
        job: Checked.
        images: To train with; None counts them, which a store has to be copied for.
        with_probe: Whether the time is estimated by a few steps on this machine.
        on_progress: Told what is done, how much of it, of how much.
    """
    network = shape_of(job)
    counted = images or _count_images(job)
    rows = [
        ("reads", _describe_data(job, counted)),
        ("network", _describe_network(job, network)),
        *_describe_placement(job),
        ("writes", _describe_storage(job, network)),
        ("registers", f"{job.registry.model} at {mask_credentials(tracking_uri(job))}"),
    ]
    if counted is None:
        return [*rows, ("cost", "not known without the number of images; give --images")]
    work = Workload.of(job, counted)
    rows.append(("cost", _describe_work(work, network)))
    if with_probe:
        found = probe(job, lambda done, total: on_progress("timing training steps", done, total))
        rows.append(("time", _describe_time(job, work, found)))
    return rows


def _count_images(job: Job) -> int | None:
    """Return how many images a job trains with, corrupt ones included; None where that needs a copy."""
    if is_s3(job.data.train):
        return None
    total = len(open_source(job.data.train))
    return total if job.data.validation else round(total * (1 - job.data.validation_fraction))


def _describe_data(job: Job, num_images: int | None) -> str:
    held_out = job.data.validation or f"{job.data.validation_fraction:.0%} of it held out"
    number = "images counted when copied" if num_images is None else f"{num_images} images to train with"
    return f"{job.data.train}, {number}; validation: {held_out}"


def _describe_network(job: Job, network: AdaptiveDepthNetwork) -> str:
    full, base = (network.cost(profile).macs / 1e6 for profile in network.extremes)
    return (
        f"{job.backbone.name}, split {list(network.split)}, {len(network.profiles)} profiles of {full:.1f} "
        f"to {base:.1f} million multiply-adds an image"
    )


def _describe_placement(job: Job) -> Iterator[tuple[str, str]]:
    recipe = job.training
    gpus = int(recipe.use_gpu)
    size = f"{recipe.cpus_per_worker} CPUs" + (f" and {gpus} GPU" if gpus else "")
    now = capacity()
    places = now.places(cpus=recipe.cpus_per_worker, gpus=gpus)
    yield "cluster", f"{now}: room for {places} workers of {size}"
    if (largest := growth()).nodes:
        yield "autoscaler", f"may bring {largest.places(cpus=recipe.cpus_per_worker, gpus=gpus)} such workers"
    if job.search is not None:
        at_once = max_concurrent_trials(job)
        yield (
            "search",
            f"{job.search.trials} trials of at most {job.search.epochs} epochs, {at_once} at a time with "
            f"{recipe.workers} workers each",
        )
    fewer = f", {recipe.min_workers} at least" if recipe.min_workers else ""
    yield "training", f"{recipe.epochs} epochs by {recipe.workers} workers of {size}{fewer}"


def _describe_storage(job: Job, network: AdaptiveDepthNetwork) -> str:
    """Return where a job is kept and how large a checkpoint is: weights and one moment of the optimiser."""
    checkpoint = 2 * 4 * sum(parameter.numel() for parameter in network.parameters())
    return f"{JobFolder.of(job).root}, checkpoints of some {checkpoint / 2**20:.0f} MiB each"


def _describe_work(work: Workload, network: AdaptiveDepthNetwork) -> str:
    total = (work.training + work.search) * step_macs(network)
    searched = f", {work.search} in trials if none is stopped" if work.search else ""
    scale, prefix = next((unit for unit in PREFIXES if total >= unit[0]), PREFIXES[-1])
    return f"{work.training} images in training{searched}: {total / scale:.3g} {prefix} multiply-adds"


def _describe_time(job: Job, work: Workload, found: Probe) -> str:
    hours = found.worker_hours(work.training), found.worker_hours(work.search)
    threads = "1 thread" if found.num_threads == 1 else f"{found.num_threads} threads"
    searched = f" and {hours[1]:.2g} in trials if none is stopped" if work.search else ""
    note = "; the job asks for GPUs, which are much quicker" if job.training.use_gpu else ""
    return (
        f"{hours[0]:.2g} worker-hours of training{searched}, by steps of {found.image_s * 1000:.3g} ms an "
        f"image on this CPU with {threads}, reading and evaluation left out{note}"
    )
