"""Evaluating a checkpoint: what a worker of the cluster does between training and registration."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.config import EvaluationConfig
from pipeline.data.thumbnails import png_thumbnail
from pipeline.data.transforms import Preprocessing
from pipeline.evaluation.analysis import Analysis, ShownImage, compare_blocks
from pipeline.evaluation.block_changes import measure_block_changes
from pipeline.evaluation.calibration import calibrate, take_images
from pipeline.evaluation.comparison import Comparison, Disagreement
from pipeline.evaluation.evaluate import Reached, reach, tabulate
from pipeline.evaluation.table import ProfileTable, Statistics
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import load_weights, read_stored_history
from pipeline.training.manifest import at_hand
from pipeline.training.plan import TrainingPlan
from pipeline.training.session import build_network, build_train_loader, build_validation_loader
from pipeline.training.students import trained_profiles
from pipeline.weights_file import write_weights

NUM_BLOCK_IMAGES = 256
"""Validation images by which blocks are measured; chosen."""


@dataclass(frozen=True)
class Measurement:
    """What the evaluation of a checkpoint brought.

    Attributes:
        table: Of the network that is registered.
        analysis: What else is known of it.
        mean_top1: Over all profiles, by what norms normalise by; one entry where nothing was tried.
    """

    table: ProfileTable
    analysis: Analysis
    mean_top1: Mapping[Statistics, float]


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
    num_passes = 2 if takes_statistics(plan, network) else 1
    num_steps = num_passes * len(batches) + len(network.profiles)

    def tell(step: int) -> None:
        board.advance.remote(0, step, num_steps)

    candidates = try_statistics(plan, network, batches, num_shown=settings.shown_images, tell=tell)
    best = max(candidates, key=lambda candidate: candidate.reached.mean_top1)
    if best.reached.statistics == "paths":
        with calibrated.writing() as path:
            write_weights(best.reached.network.state_dict(), path)
    table = tabulate(
        best.reached,
        device=device,
        trained=trained_profiles(network.profiles, plan.distillation),
        weights="average" if read_stored_history(checkpoint)[-1].uses_ema else "latest",
        latency_batch_size=settings.latency_batch_size,
        latency_runs=settings.latency_runs,
        on_latency=lambda done: tell(num_passes * len(batches) + done),
    )
    images = torch.cat(list(take_images(batches, NUM_BLOCK_IMAGES)))[:NUM_BLOCK_IMAGES].to(device)
    means = {candidate.reached.statistics: candidate.reached.mean_top1 for candidate in candidates}
    return Measurement(table, analyse(plan, best, images), means)


@dataclass(frozen=True)
class Candidate:
    """A network that may be registered: what its profiles reach, and how they differ."""

    reached: Reached
    comparison: Comparison


def takes_statistics(plan: TrainingPlan, network: AdaptiveDepthNetwork) -> bool:
    """Return whether norm statistics are to be taken anew for every path."""
    return plan.calibration_images > 0 and bool(network.statistic_norms())


def try_statistics(
    plan: TrainingPlan,
    network: AdaptiveDepthNetwork,
    batches: DataLoader[Any],
    *,
    num_shown: int,
    tell: Callable[[int], None],
) -> list[Candidate]:
    """Return a trained network as it is and, where that makes a difference, with statistics taken anew.

    Args:
        plan: What was trained.
        network: On the device to measure on.
        batches: Validation images.
        num_shown: How many images to keep on which the extremes differ.
        tell: Told how many batches are done.
    """
    device = next(network.parameters()).device

    def candidate(network: AdaptiveDepthNetwork, statistics: Statistics, *, done: int) -> Candidate:
        num_classes = network.description.num_classes
        comparison = Comparison(network.profiles, num_classes=num_classes, num_shown=num_shown, device=device)
        told = counted(batches, lambda step: tell(done + step))
        reached = reach(network, told, device=device, statistics=statistics, watch=comparison.watch)
        return Candidate(reached, comparison)

    candidates = [candidate(network, "training", done=0)]
    if takes_statistics(plan, network):
        images = take_images(build_train_loader(plan, rank=0, world_size=1), plan.calibration_images)
        anew = calibrate(network, images, device=device)
        candidates.append(candidate(anew, "paths", done=len(batches)))
    return candidates


def analyse(plan: TrainingPlan, candidate: Candidate, images: Tensor) -> Analysis:
    """Return what is known of a trained network beside its profile table.

    Args:
        plan: What was trained.
        candidate: What is registered.
        images: To measure blocks by, on the network's device, shape (B, channels, height, width).
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        untrained = build_network(plan).to(images.device)
    network, comparison = candidate.reached.network, candidate.comparison
    # Fresh running statistics would say nothing of what its norms do.
    before = measure_block_changes(calibrate(untrained, [images], device=images.device), images)
    return Analysis(
        agreement=comparison.agreement,
        classes=comparison.classes,
        shown=tuple(show(image, plan.preprocessing) for image in comparison.shown),
        blocks=compare_blocks(network, before=before, after=measure_block_changes(network, images)),
    )


def show(image: Disagreement, preprocessing: Preprocessing) -> ShownImage:
    """Return an image as it can be shown."""
    return ShownImage(
        image.label,
        image.full,
        image.base,
        image.full_probability,
        image.base_probability,
        png_thumbnail(image.image, preprocessing),
    )


def counted(batches: DataLoader[Any], tell: Callable[[int], None]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches and tell how many came before each."""
    for step, batch in enumerate(batches):
        tell(step)
        yield batch
