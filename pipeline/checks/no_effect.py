"""Settings that pass one by one and do nothing together, or another thing than they say."""

import itertools
from collections.abc import Iterator

from pipeline.config import Job
from pipeline.recipe import TrainingConfig

JITTERED = "3a"
"""In the names of the policies beside which timm varies colours, too."""


def settings_without_effect(job: Job) -> list[str]:
    """Return which settings of a job contradict each other; a trial's shorter run is scaled, not checked."""
    return [*_schedule_problems(job.training), *_colour_problems(job), *_comparison_problems(job)]


def class_problems(job: Job, num_classes: int) -> list[str]:
    """Return which settings of a job have no effect with its number of classes."""
    top_k = job.distillation.top_k
    if top_k is None or top_k < num_classes:
        return []
    return [
        f"distillation.top_k must be below the number of classes, got {top_k} for {num_classes}, all of "
        "which are compared without it; leave it out"
    ]


def _schedule_problems(recipe: TrainingConfig) -> Iterator[str]:
    milestones = recipe.milestones
    is_rising = all(one < other for one, other in itertools.pairwise(milestones))
    if milestones and not (is_rising and milestones[0] >= 1 and milestones[-1] < recipe.epochs):
        yield (
            f"training.milestones must rise and lie within the training, from 1 to below epochs, got "
            f"{list(milestones)} with epochs: {recipe.epochs}; correct or leave out those outside"
        )
    if recipe.step_epochs is not None and recipe.step_epochs >= recipe.epochs:
        yield (
            f"training.step_epochs < epochs must hold, else lr never falls, got {recipe.step_epochs} and "
            f"{recipe.epochs}; lower it"
        )
    if recipe.min_lr > recipe.lr:
        yield (
            f"training.min_lr <= lr must hold, as lr falls to it, got {recipe.min_lr:g} and {recipe.lr:g}; "
            "lower min_lr"
        )


def _colour_problems(job: Job) -> Iterator[str]:
    policy, jitter = job.augmentation.policy, job.augmentation.color_jitter
    if policy is not None and jitter and JITTERED not in policy:
        yield (
            f"augmentation.color_jitter has no effect beside policy: {policy}, which varies colours itself, "
            f"got {jitter:g}; leave one of them out"
        )


def _comparison_problems(job: Job) -> Iterator[str]:
    if job.distillation.top_k == 1:
        yield (
            "distillation.top_k must be 2 or more, as one class has nothing to be compared with, got 1; "
            "raise it or leave it out"
        )
