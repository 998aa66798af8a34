"""Peak memory of one training step: both depths at once, in turns, and with activations recomputed.

One backward pass needs the activations of both depths at the same time; two passes in turns need those
of one. Each way runs in a process of its own, because a process seldom gives memory back.

Run:      python -m tests.benchmarks.step_memory
Expect:   of the joint step's memory the sequential one needs 0.75 in float32, hardly less with bf16, where
          weights and gradients outweigh the activations of so small a batch; recomputing needs 0.6 to 0.7
Takes:    about five minutes on two CPU cores
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.adaptive import memory_format
from pipeline.precision import autocast
from pipeline.recipe import TrainingConfig
from pipeline.training.optimisation import build_optimizer

from .paired import publish
from .training_step import CASES, DEVICE, IMAGE_SIZE, PRECISIONS, RESNET50, VIT_SMALL, OurStep, random_batch

COMMAND = "python -m tests.benchmarks.step_memory"
WAYS = ("joint", "sequential", "joint recomputed", "sequential recomputed", "super-net alone")
"""Of `passes` and `recompute_activations` in a job file; an ordinary training is the yardstick."""
STEPS = 2
"""Chosen: the second step is the first with the optimiser's state in memory."""
REPEATS = 2
"""Chosen: what the allocator does differs little from one process to the next."""

Step = Callable[[Tensor, Tensor], object]


def plain_step(network: AdaptiveDepthNetwork, recipe: TrainingConfig) -> Step:
    """Return the step of the super-net alone, as one trains an ordinary network."""
    layout = memory_format(network)
    network.to(memory_format=layout)
    optimizer = build_optimizer(network, recipe)

    def step(images: Tensor, labels_B: Tensor) -> None:
        with autocast(DEVICE, recipe.precision):
            logits_BK = network(images.to(memory_format=layout)).float()
            loss = functional.cross_entropy(logits_BK, labels_B)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def build_step(case_name: str, way: str, precision: str) -> Step:
    """Return the step that one process measures."""
    case = next(case for case in CASES if case.name == case_name)
    network = case.network()
    if way == "super-net alone":
        return plain_step(network, case.recipe(precision))
    network.set_grad_checkpointing("recomputed" in way)
    passes = "sequential" if way.startswith("sequential") else "joint"
    return OurStep(network, case.recipe(precision, passes=passes))


def memory_bytes(field: str) -> int:
    """Return a size that Linux keeps of this process: VmRSS is now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def peak_bytes(case_name: str, way: str, precision: str) -> int:
    """Return how far memory rises in a few steps above that of a network that has not run."""
    step = build_step(case_name, way, precision)
    images, labels_B = random_batch()
    before = memory_bytes("VmRSS")
    for _ in range(STEPS):
        step(images, labels_B)
    return memory_bytes("VmHWM") - before


def measured_apart(case_name: str, way: str, precision: str) -> list[int]:
    """Return `peak_bytes` of several processes, each of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.step_memory", case_name, way, precision]
    return [int(subprocess.check_output(command, text=True)) for _ in range(REPEATS)]


def describe(case_name: str, precision: str) -> str:
    """Return a line with every way's memory, and its share of the first way's."""
    peaks = {way: measured_apart(case_name, way, precision) for way in WAYS}
    first = statistics.mean(peaks[WAYS[0]])
    cells = (
        f"{way} {statistics.mean(sizes) / 2**20:.0f} MiB ({min(sizes) / 2**20:.0f} to "
        f"{max(sizes) / 2**20:.0f}; {statistics.mean(sizes) / first:.2f})"
        for way, sizes in peaks.items()
    )
    return f"{case_name}, {precision}: {'; '.join(cells)}"


def main() -> None:
    """Measure all ways and publish them, or in a process of its own print one way's bytes."""
    if len(sys.argv) > 1:
        print(peak_bytes(*sys.argv[1:]))  # noqa: T201
        return
    notes = [
        f"Gradients and the optimiser's state included; 16 images of {IMAGE_SIZE} pixels; mean of "
        f"{REPEATS} processes, their spread, share of joint."
    ]
    notes += [describe(case.name, precision) for case in (RESNET50, VIT_SMALL) for precision in PRECISIONS]
    publish("Peak memory of a training step", COMMAND, [], notes)


if __name__ == "__main__":
    main()
