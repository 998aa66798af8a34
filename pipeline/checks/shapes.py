"""One training step of a job's network on shapes: nothing is computed, so it takes seconds at any size.

What the meta device cannot run is left out rather than refused. No such operator is known: two networks of
each of the 72 families run whole.

Shapes: B images, C classes.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import Job
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.backbone import create_backbone
from pipeline.survey import explain
from pipeline.training.optimisation import build_criterion
from pipeline.training.plan import describe_teacher, shape_of
from pipeline.training.step import SelfDistillation

from .attempt import blamed, failure, in_a_line
from .model_arguments import argument_problems

NUM_IMAGES, NUM_CLASSES = 3, 2
"""Of a batch, chosen: more than one image, which BatchNorm needs, and not as many as classes."""

KWARGS, TEACHER_KWARGS = "backbone.kwargs", "distillation.teacher.kwargs"
WITHOUT_FEATURES = {
    "distillation.features": 0.0,
    "distillation.feature_temperature": None,
    "distillation.feature_stages": "all",
}


def without_refused_arguments(job: Job) -> tuple[Job, list[str]]:
    """Return a job without those arguments of its backbone that are refused unseen, and why they are."""
    refused = argument_problems(KWARGS, job.backbone.kwargs)
    if not refused:
        return job, []
    return job.override({KWARGS: _without(job.backbone.kwargs, refused)}), [*refused.values()]


def try_network(job: Job) -> tuple[AdaptiveDepthNetwork | None, list[str]]:
    """Build a job's network without weights, and try it.

    Returns:
        The network, None if it cannot be built, and what is wrong with it: law, value seen and way out.
    """
    built: list[AdaptiveDepthNetwork] = []
    error = failure(lambda: built.append(shape_of(job)))
    if error is not None:
        return None, _explain_backbone(job, error)
    (network,) = built
    num_images = _images_of_a_worker(job)
    error = _step_failure(job, network, num_images=num_images)
    return network, [] if error is None else _explain_step(job, network, error, num_images=num_images)


def teacher_problems(job: Job) -> list[str]:
    """Return what is wrong with a job's teacher, as far as its shapes tell."""
    teacher = job.distillation.teacher
    if teacher is None:
        return []
    refused = argument_problems(TEACHER_KWARGS, teacher.kwargs)
    kept = _without(teacher.kwargs, refused)

    def attempt(kwargs: Mapping[str, Any]) -> Exception | None:
        return _teacher_failure(job.override({TEACHER_KWARGS: dict(kwargs)}))

    error = attempt(kept)
    if error is None:
        return [*refused.values()]
    found = [
        _argument_message(TEACHER_KWARGS, teacher.name, text, why)
        for text, why in blamed(kept, error, attempt).items()
    ]
    return [*refused.values(), *(found or [f"distillation.teacher: {error}"])]


def _explain_step(job: Job, network: AdaptiveDepthNetwork, error: Exception, *, num_images: int) -> list[str]:
    """Return which setting makes a network's step fail: the one without which it does not."""
    name, features = job.backbone.name, job.distillation.features
    if num_images == 1 and _step_failure(job, network, num_images=NUM_IMAGES) is None:
        return [
            f"training.batch_size must give every worker two images at a time for {name}, got 1 after "
            f"accumulation_steps and workers ({in_a_line(error)}); raise it"
        ]
    plain = job.override(WITHOUT_FEATURES)
    if features and _step_failure(plain, network, num_images=num_images) is None:
        return [
            f"distillation.features compares what stages return, got {features:g} for {name}, whose stages "
            f"cannot be compared ({in_a_line(error)}); leave it out"
        ]
    return _explain_backbone(job, error)


def _explain_backbone(job: Job, error: Exception) -> list[str]:
    """Return which of its arguments make a job's network fail, or that it does without them."""
    name, size = job.backbone.name, job.data.image_size
    found = blamed(job.backbone.kwargs, error, lambda kwargs: _failure(job.override({KWARGS: dict(kwargs)})))
    if found:
        return [_argument_message(KWARGS, name, text, why) for text, why in found.items()]
    if isinstance(error, ValueError):
        return [f"backbone: {explain(error)}"]
    return [
        f"backbone: a training step must run, of {name} on images of {size} x {size} pixels it does not "
        f"({in_a_line(error)}); choose another data.image_size or backbone"
    ]


def _argument_message(key: str, name: str, text: str, error: Exception) -> str:
    return (
        f"{key} must build a network that runs, {name} with {text} does not ({in_a_line(error)}); leave it "
        "out, or see the arguments of its class in timm"
    )


def _images_of_a_worker(job: Job) -> int:
    """Return how many images a worker computes at a time, as far as it matters here."""
    return min(NUM_IMAGES, job.training.micro_batch_size // job.training.workers)


def _without(kwargs: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key not in refused}


def _failure(job: Job) -> Exception | None:
    """Return why a job's network cannot be built or trained, None if it can."""
    built: list[AdaptiveDepthNetwork] = []
    error = failure(lambda: built.append(shape_of(job)))
    return error or _step_failure(job, built[0], num_images=_images_of_a_worker(job))


def _step_failure(job: Job, network: AdaptiveDepthNetwork, *, num_images: int) -> Exception | None:
    return _known(failure(partial(_step, job, network, num_images=num_images)))


def _known(error: Exception | None) -> Exception | None:
    """Return an error of the network's own, None for one of the meta device."""
    is_of_meta = isinstance(error, NotImplementedError) or "meta tensor" in str(error)
    return None if is_of_meta else error


def _step(job: Job, network: AdaptiveDepthNetwork, *, num_images: int) -> None:
    """Run one training step on shapes, with everything of it that follows from the job but the teacher."""
    rule = job.distillation.model_copy(update={"teacher": None})
    criterion = build_criterion(job.training, is_smoothed=job.augmentation.mixes)
    _, base = network.extremes
    with torch.device("meta"):
        images_BCHW = torch.empty(num_images, *network.input_shape)
        _check_logits(network.eval(), images_BCHW)
        shares = (num_images, NUM_CLASSES)
        targets = torch.empty(shares) if job.augmentation.mixes else torch.empty(num_images, dtype=torch.long)
        step = SelfDistillation(network.train(), rule, criterion)
        step(images_BCHW, targets, [base]).backward()
    network.zero_grad(set_to_none=True)


def _teacher_failure(job: Job) -> Exception | None:
    description = describe_teacher(job, num_classes=NUM_CLASSES)
    if description is None:
        return None

    def predict() -> None:
        with torch.device("meta"):
            teacher = create_backbone(description).eval()
            size = job.data.image_size
            images = torch.empty(NUM_IMAGES, job.backbone.kwargs.get("in_chans", 3), size, size)
            _check_logits(teacher, images)

    return _known(failure(predict))


@torch.no_grad()
def _check_logits(network: nn.Module, images_BCHW: Tensor) -> None:
    """Raise ValueError unless a network returns one number a class for each image."""
    logits = network(images_BCHW)
    wanted, seen = (len(images_BCHW), NUM_CLASSES), tuple(getattr(logits, "shape", ()))
    if seen != wanted:
        raise ValueError(f"logits must have the shape (images, classes), here {wanted}, they have {seen}")
