"""Evaluating a checkpoint: what a worker of the cluster does between training and registration."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.config import EvaluationConfig
from pipeline.evaluation.calibration import calibrate, take_images
from pipeline.evaluation.evaluate import reach, tabulate
from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import load_weights, read_stored_history
from pipeline.training.manifest import at_hand
from pipeline.training.plan import TrainingPlan
from pipeline.training.session import build_train_loader, build_validation_loader
from pipeline.training.students import trained_profiles
from pipeline.weights_file import write_weights


@dataclass(frozen=True)
class Measurement:
    """What the evaluation of a checkpoint brought.

    Attributes:
        table: Of the network that is registered.
        mean_top1: Over all profiles, by what norms normalise by; one entry where nothing was tried.
    """

    table: ProfileTable
    mean_top1: dict[str, float]


def load_network(plan: TrainingPlan, checkpoint: StoragePath) -> AdaptiveDepthNetwork:
    """Return the network of a plan with a checkpoint's weights."""
    network = plan.network.build()
    with at_hand(checkpoint) as folder:
        load_weights(folder, network)
    return network


def load_evaluated(
    plan: TrainingPlan, checkpoint: StoragePath, calibrated: StoragePath, table: ProfileTable
) -> AdaptiveDepthNetwork:
    """Return the network that a table is about.

    Args:
        plan: What was trained.
        checkpoint: What was evaluated.
        calibrated: Where `measure_checkpoint` wrote the weights if they are not the checkpoint's.
        table: What it returned.
    """
    if table.statistics == "training":
        return load_network(plan, checkpoint)
    network = replace(plan.network, path_statistics=True).build()
    with calibrated.as_local() as path:
        network.load_state_dict(load_file(path))
    return network


def measure_checkpoint(
    plan: TrainingPlan,
    checkpoint: StoragePath,
    calibrated: StoragePath,
    settings: EvaluationConfig,
    board: Any,  # noqa: ANN401
) -> Measurement:
    """Evaluate a checkpoint where this runs: on its GPU if the plan uses one, else on its CPUs.

    Where norms keep running statistics, they are taken anew for every path as well, and what is better in the
    mean over all profiles counts.

    Args:
        plan: What was trained.
        checkpoint: Folder of the checkpoint.
        calibrated: Gets the weights if the statistics taken anew are better.
        settings: What to measure.
        board: Handle of a `ProgressBoard`.
    """
    torch.set_num_threads(plan.recipe.num_threads)
    device = torch.device("cuda" if plan.recipe.use_gpu else "cpu")
    network = load_network(plan, checkpoint).to(device)
    batches = build_validation_loader(plan, rank=0, world_size=1)
    takes_statistics = plan.calibration_images > 0 and bool(network.statistic_norms())
    num_passes = 2 if takes_statistics else 1
    num_steps = num_passes * len(batches) + len(network.profiles)

    def tell(step: int) -> None:
        board.advance.remote(0, step, num_steps)

    candidates = [reach(network, counted(batches, tell), device=device)]
    if takes_statistics:
        images = take_images(build_train_loader(plan, rank=0, world_size=1), plan.calibration_images)
        anew = calibrate(network, images, device=device)
        told = counted(batches, lambda step: tell(len(batches) + step))
        candidates.append(reach(anew, told, device=device, statistics="paths"))
    best = max(candidates, key=lambda candidate: candidate.mean_top1)
    if best.statistics == "paths":
        with calibrated.writing() as path:
            write_weights(best.network.state_dict(), path)
    table = tabulate(
        best,
        device=device,
        trained=trained_profiles(network.profiles, plan.distillation),
        weights="average" if read_stored_history(checkpoint)[-1].uses_ema else "latest",
        latency_batch_size=settings.latency_batch_size,
        latency_runs=settings.latency_runs,
        on_latency=lambda done: tell(num_passes * len(batches) + done),
    )
    return Measurement(table, {candidate.statistics: candidate.mean_top1 for candidate in candidates})


def counted(batches: DataLoader[Any], tell: Callable[[int], None]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches and tell how many came before each."""
    for step, batch in enumerate(batches):
        tell(step)
        yield batch
