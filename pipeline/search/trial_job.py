"""From a design of the search to the job that a trial trains: pure functions."""

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.config import Job
from pipeline.recipe import TrainingConfig
from pipeline.search_config import SearchConfig


def trial_seed(job_seed: int, number: int) -> int:
    """Return the seed of a trial, in [0, 2^31); it follows from the job's seed and the trial's number."""
    digest = hashlib.sha256(f"{job_seed}/trial/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


def trial_job(job: Job, search: SearchConfig, values: Mapping[str, Any], *, seed: int) -> Job:
    """Return the job of a trial: the design's values, in the epochs and with the image size that a trial has.

    Args:
        job: The job whose search this is.
        search: Its search section.
        values: The design, by dotted key.
        seed: Of the trial.

    Raises:
        RequestError: If a value does not fit the job.
    """
    full = job.override({**values, "seed": seed})
    image_size = full.data.image_size if search.image_size is None else search.image_size
    return full.override(
        {
            **shortened(full.training, search.epochs),
            "data.image_size": image_size,
            # Trials share the cluster; each has its place or waits for it.
            "training.min_workers": None,
        }
    )


def shortened(recipe: TrainingConfig, epochs: int) -> dict[str, Any]:
    """Return the overrides that fit a recipe into fewer (or more) epochs.

    Warm-up and milestones keep their share of the run, rounded: a warm-up lasts at least one epoch
    where that leaves one to train, a milestone lies at epoch 1 or later.
    """
    share = epochs / recipe.epochs
    overrides: dict[str, Any] = {"training.epochs": epochs}
    if recipe.warmup_epochs:
        scaled = max(1, round(recipe.warmup_epochs * share))
        overrides["training.warmup_epochs"] = min(scaled, epochs - 1)
    if recipe.schedule == "multistep":
        scaled_milestones = {max(1, round(milestone * share)) for milestone in recipe.milestones}
        overrides["training.milestones"] = sorted(scaled_milestones)
    return overrides
