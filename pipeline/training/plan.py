"""Everything a training worker needs, as one value that travels by pickle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.config import Job
from pipeline.data.plan import DataPlan
from pipeline.data.transforms import Crop, Preprocessing
from pipeline.evaluation.score import Objective
from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.cost import BlockLatencies
from pipeline.networks.profiles import StageSize
from pipeline.recipe import AugmentationConfig, DistillationConfig, TrainingConfig
from pipeline.storage import StoragePath

from .channels import channels_of, published_data_config, teacher_kwargs
from .initial_weights import GivenWeights
from .teacher import TeacherPlan

NOTHING_GIVEN = GivenWeights()
NOTHING_MEASURED: Mapping[str, BlockLatencies] = {}


@dataclass(frozen=True)
class TrainingPlan:
    """One training run, decided in the driver and carried out by the workers.

    Attributes:
        network: What to train.
        initial_weights: File of the backbone's initial weights; None starts new.
        winner: Checkpoint of the same network that lends its weights to start from; None where there is none.
        teacher: Who teaches the super-net beside the labels, or None.
        recipe: How to train it.
        distillation: How the students learn.
        data: File of the data plan.
        preprocessing: How images become tensors.
        crop: Training crop.
        flip_probability: Of a horizontal flip in training.
        augmentation: How training images are varied further.
        seed: Every random source of the run follows from it.
        validates_all_profiles: Validate all 2^N profiles after an epoch, not only `full` and `base`.
        calibration_images: Training images from which norms take their statistics before all profiles are
            measured; 0 leaves them as training had them.
        objective: Of the score.
        draws_splits: Train a one-shot network, whose split is drawn anew for every step.
        alone: Profile that is trained as a network of its own, from targets alone; None trains the network.
    """

    network: NetworkDescription
    initial_weights: StoragePath | None
    winner: StoragePath | None
    teacher: TeacherPlan | None
    recipe: TrainingConfig
    distillation: DistillationConfig
    data: StoragePath
    preprocessing: Preprocessing
    crop: Crop
    flip_probability: float
    augmentation: AugmentationConfig
    seed: int
    validates_all_profiles: bool
    calibration_images: int
    objective: Objective
    draws_splits: bool = False
    alone: str | None = None


def plan_training(
    job: Job,
    data: StoragePath,
    *,
    weights: GivenWeights = NOTHING_GIVEN,
    latencies: Mapping[str, BlockLatencies] = NOTHING_MEASURED,
    validates_all_profiles: bool = False,
) -> TrainingPlan:
    """Return the training run that a job describes on prepared data.

    Args:
        job: With the settings of this run.
        data: File of the data plan.
        weights: Files for a job that is pretrained or has a teacher.
        latencies: By backbone, of a search that needs them.
        validates_all_profiles: Validate all 2^N profiles after an epoch, not only `full` and `base`.
    """
    num_classes = load_data_plan(data).num_classes
    teacher = describe_teacher(job, num_classes=num_classes)
    objective = objective_of(job, latencies)
    return TrainingPlan(
        network=describe_network(job, num_classes=num_classes),
        initial_weights=weights.initial,
        winner=weights.winner,
        teacher=TeacherPlan(teacher, weights.teacher) if teacher and weights.teacher else None,
        recipe=job.training,
        distillation=job.distillation,
        data=data,
        preprocessing=describe_preprocessing(job),
        crop=job.data.crop,
        flip_probability=job.data.flip_probability,
        augmentation=job.augmentation,
        seed=job.seed,
        # A budget may lie between the extremes.
        validates_all_profiles=validates_all_profiles or objective.name == "budget",
        calibration_images=job.evaluation.calibration_images,
        objective=objective,
    )


def objective_of(job: Job, latencies: Mapping[str, BlockLatencies] = NOTHING_MEASURED) -> Objective:
    """Return what a job's networks are compared by: the objective of its search, if it has one.

    Args:
        job: Its settings.
        latencies: By backbone; without them limits in milliseconds are left out.
    """
    search = job.search
    if search is None:
        return Objective()
    return Objective(
        search.objective,
        max_macs=None if search.max_gmacs is None else search.max_gmacs * 1e9,
        max_params=None if search.max_mparams is None else search.max_mparams * 1e6,
        max_latency_ms=search.max_ms,
        cost=search.cost,
        latencies=latencies.get(job.backbone.name),
    )


def load_data_plan(file: StoragePath) -> DataPlan:
    """Return the data plan that a file holds."""
    with file.as_local() as path:
        return DataPlan.load(path)


def describe_network(job: Job, *, num_classes: int) -> NetworkDescription:
    """Return the network that a job describes, for a number of classes."""
    return NetworkDescription(
        backbone=job.backbone.name,
        num_classes=num_classes,
        split=job.split,
        image_size=job.data.image_size,
        small_images=job.backbone.small_images,
        num_stages=job.backbone.stages,
        skip_aware_norms=job.backbone.skip_aware_norms,
        # Depths between the extremes must not disturb the statistics of these while they train.
        path_statistics=job.distillation.students != "base",
        kwargs=job.backbone.kwargs,
    )


def stage_sizes(network: AdaptiveDepthNetwork) -> Sequence[StageSize]:
    """Return the size of every stage."""
    return [layout.size for layout in network.layouts]


def shape_of(job: Job) -> AdaptiveDepthNetwork:
    """Return a job's network without weights; raises ValueError if it cannot be built for its images."""
    with torch.device("meta"):
        return describe_network(job, num_classes=2).build()


def describe_teacher(job: Job, *, num_classes: int) -> NetworkDescription | None:
    """Return the network that teaches a job's super-net, if the job has one."""
    teacher = job.distillation.teacher
    if teacher is None:
        return None
    return NetworkDescription(
        backbone=teacher.name,
        num_classes=num_classes,
        image_size=job.data.image_size,
        kwargs=teacher_kwargs(job),
    )


def describe_preprocessing(job: Job) -> Preprocessing:
    """Return how a job's images become tensors: the backbone's own mean, standard deviation and resizing.

    Where training sees whole images, evaluation does too; else it keeps the backbone's share of the centre.
    """
    published = published_data_config(job.backbone.name, channels_of(job))
    return Preprocessing(
        image_size=job.data.image_size,
        mean=tuple(published["mean"]),
        std=tuple(published["std"]),
        interpolation=published["interpolation"],
        crop_pct=published["crop_pct"] if job.data.crop == "random_resized" else 1.0,
    )
