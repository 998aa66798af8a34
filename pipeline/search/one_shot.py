"""Splits worth trying, from one training in which the split is drawn anew for every step.

All splits share its weights, so each is scored on the validation images without a training of its own. How
well that ranks them is measured in `tests/benchmarks/one_shot_ranking.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from cluster.runtime import run_remotely
from pipeline.config import Job
from pipeline.evaluation.calibration import take_images
from pipeline.evaluation.one_shot import reach_splits
from pipeline.networks.cost import BlockLatencies
from pipeline.networks.one_shot import OneShotNetwork, Points
from pipeline.search_config import SearchConfig
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import load_weights
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.manifest import at_hand
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.progress import Progress
from pipeline.training.session import build_train_loader, build_validation_loader
from pipeline.training.trainer import resources_per_worker, run_training

from .trial_job import trial_job, trial_seed

RUN = "one_shot"
"""Name of the training, below a sweep's folder."""

BEST_SPLITS = 3
"""How many are tried by trials of their own; chosen."""

SEED_NUMBER = -1
"""Takes the place of a trial's number, so that the seed is no trial's."""


def score_all_splits(
    job: Job,
    search: SearchConfig,
    data: StoragePath,
    *,
    folder: StoragePath,
    weights: GivenWeights,
    latencies: Mapping[str, BlockLatencies],
    on_progress: Callable[[Progress], None],
) -> dict[Points, float]:
    """Train a one-shot network and return the score of every split, the best first.

    The same call goes on where an earlier one ended, or returns what it stored.

    Args:
        job: Whose search it is.
        search: Its search section.
        data: File of the data plan that trials train on.
        folder: Of the sweep.
        weights: Files for a job that is pretrained or has a teacher.
        latencies: By backbone, where the search needs them.
        on_progress: Told about steps and epochs, from a thread.

    Raises:
        JobError: If the training failed.
    """
    file = folder / f"{RUN}.json"
    if not file.exists():
        plan = one_shot_plan(job, search, data, weights=weights, latencies=latencies)
        result = run_training(plan, name=RUN, storage=folder, on_progress=on_progress)
        scores = run_remotely(score_checkpoint, resources_per_worker(plan.recipe), plan, result.checkpoint)
        rows = [{"split": list(split), "score": score} for split, score in scores.items()]
        file.write_text(json.dumps(rows, indent=1))
        (folder / RUN).delete()
    found = {tuple(row["split"]): float(row["score"]) for row in json.loads(file.read_text())}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def one_shot_plan(
    job: Job,
    search: SearchConfig,
    data: StoragePath,
    *,
    weights: GivenWeights,
    latencies: Mapping[str, BlockLatencies],
) -> TrainingPlan:
    """Return the training of a one-shot network: the job's own settings in the epochs of a trial."""
    seed = trial_seed(job.seed, SEED_NUMBER)
    settings: dict[str, Any] = {
        # Which weights a step reaches differs from step to step, which one reduction at its end allows for.
        "training.passes": "sequential",
        # The super-net alone is trained by every step.
        "training.best_by": "full/top1",
    }
    shortened = trial_job(job, search, {}, seed=seed).override(settings)
    plan = plan_training(shortened, data, weights=weights, latencies=latencies)
    # Between the extremes there is nothing to validate before every split has statistics of its own.
    return replace(plan, validates_all_profiles=False, draws_splits=True)


def score_checkpoint(plan: TrainingPlan, checkpoint: StoragePath) -> dict[Points, float]:
    """Score every split of a checkpoint where this runs: on its GPU if the plan uses one, else on CPUs."""
    torch.set_num_threads(plan.recipe.num_threads)
    device = torch.device("cuda" if plan.recipe.use_gpu else "cpu")
    network = OneShotNetwork(plan.network)
    with at_hand(checkpoint) as path:
        load_weights(path, network)
    loader = build_train_loader(plan, rank=0, world_size=1)
    images = list(take_images(loader, plan.calibration_images))
    batches = list(build_validation_loader(plan, rank=0, world_size=1))
    reached = reach_splits(network.to(device), images, batches, device=device)
    return {split: plan.objective.score(one.network, one.accuracies) for split, one in reached.items()}
