"""What one training worker holds: network, optimiser, schedule and loaders on its device."""

from dataclasses import dataclass
from typing import Any

import torch
from ray import train
from ray.train.torch import get_device, prepare_model
from timm.layers import convert_sync_batchnorm
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from pipeline.data.loading import train_loader, validation_loader
from pipeline.data.random_state import mix_seed
from pipeline.data.transforms import eval_transform, train_transform
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.adaptive import memory_format
from pipeline.networks.one_shot import OneShotNetwork
from pipeline.networks.single_depth import Network, SingleDepthNetwork, trained_extremes
from pipeline.storage import StoragePath

from .checkpoint import load_weights
from .determinism import be_deterministic
from .early import EarlyCheckpoints
from .health import HealthWatch
from .host_memory import keep_freed_memory
from .initial_weights import load_initial_weights
from .manifest import at_hand
from .mixing import BatchMixer
from .optimisation import build_criterion, build_optimizer, build_scheduler
from .plan import TrainingPlan, load_data_plan
from .step import SelfDistillation
from .students import NoStudents, SplitSchedule, StudentSchedule
from .supervised import SupervisedStep
from .teacher import Teacher
from .update import Step, Updater


@dataclass
class Session:
    """What a worker holds through a run.

    Attributes:
        plan: What to train.
        rank: This worker, from 0.
        world_size: Number of workers.
        device: Where this worker computes.
        network: The network that learns.
        updater: Carries out updates of its weights.
        optimizer: Over all parameters of the network.
        scheduler: Of the learning rate, by optimiser update.
        students: Which depths learn from the super-net in an update.
        mixer: Of mixup and cutmix, or None.
        train_batches: This worker's part of what all workers compute at a time.
        validation_batches: This worker's part of the validation images.
        profiles: Which depths are validated after an epoch.
        board: Handle of a `ProgressBoard`, or None.
        run: Folder of the run, for its checkpoints.
        health: Looks at every step's loss and gradient.
        early: Says when a checkpoint is due within an epoch.
    """

    plan: TrainingPlan
    rank: int
    world_size: int
    device: torch.device
    network: Network
    updater: Updater
    optimizer: Optimizer
    scheduler: Scheduler
    students: StudentSchedule | NoStudents
    mixer: BatchMixer | None
    train_batches: DataLoader[Any]
    validation_batches: DataLoader[Any]
    profiles: tuple[DepthProfile, ...]
    board: Any
    run: StoragePath
    health: HealthWatch
    early: EarlyCheckpoints


def open_session(plan: TrainingPlan, board: Any, run: StoragePath) -> Session:  # noqa: ANN401
    """Build everything on this worker's device; must run in a Ray Train worker."""
    if plan.recipe.deterministic:
        be_deterministic()
    if not plan.recipe.use_gpu:
        keep_freed_memory()
    context = train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.recipe.num_threads)
    network = build_learner(plan)
    step = build_step(plan, network, device=get_device())
    step_module = place_step(step, plan, world_size=world_size)
    train_batches = build_train_loader(plan, rank=rank, world_size=world_size)
    optimizer = build_optimizer(network, plan.recipe)
    updates_per_epoch = len(train_batches) // plan.recipe.accumulation_steps
    return Session(
        plan=plan,
        rank=rank,
        world_size=world_size,
        device=get_device(),
        network=network,
        updater=Updater(
            step_module, step, optimizer, plan.recipe, device=get_device(), world_size=world_size
        ),
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, plan.recipe, updates_per_epoch=updates_per_epoch),
        students=build_students(plan, network),
        mixer=build_mixer(plan, rank=rank),
        train_batches=train_batches,
        validation_batches=build_validation_loader(plan, rank=rank, world_size=world_size),
        profiles=validated_profiles(plan, network),
        board=board,
        run=run,
        health=HealthWatch(
            network,
            optimizer,
            device=get_device(),
            rank=rank,
            world_size=world_size,
            board=board,
            precision=plan.recipe.precision,
            undoes_overflow=plan.recipe.precision == "fp16",
        ),
        early=EarlyCheckpoints(minutes * 60 if (minutes := plan.recipe.checkpoint_minutes) else None),
    )


def build_mixer(plan: TrainingPlan, *, rank: int) -> BatchMixer | None:
    """Return what mixes a worker's images, if any; every worker mixes in its own way."""
    if not plan.augmentation.mixes:
        return None
    return BatchMixer(
        plan.augmentation,
        num_classes=plan.network.num_classes,
        label_smoothing=plan.recipe.label_smoothing,
        seed=mix_seed(plan.seed, rank),
    )


def build_learner(plan: TrainingPlan) -> Network:
    """Return what a plan trains, with its initial weights: the network, or one depth of it."""
    network = build_network(plan)
    return network if plan.alone is None else SingleDepthNetwork(network, plan.alone)


def build_network(plan: TrainingPlan) -> AdaptiveDepthNetwork:
    """Return the network of a plan with its initial weights."""
    network = OneShotNetwork(plan.network) if plan.draws_splits else plan.network.build()
    if plan.initial_weights is not None:
        load_initial_weights(plan.initial_weights, network)
    if plan.winner is not None:
        with at_hand(plan.winner) as folder:
            load_weights(folder, network)
    return network


def validated_profiles(plan: TrainingPlan, network: Network) -> tuple[DepthProfile, ...]:
    """Return which depths are validated after an epoch."""
    if isinstance(network, SingleDepthNetwork) or not plan.validates_all_profiles:
        return trained_extremes(network)
    return network.profiles


def build_students(plan: TrainingPlan, network: Network) -> StudentSchedule | NoStudents:
    """Return who learns from the super-net in every step."""
    if isinstance(network, SingleDepthNetwork):
        return NoStudents()
    if isinstance(network, OneShotNetwork):
        return SplitSchedule(network, plan.distillation, seed=plan.seed)
    return StudentSchedule(network.profiles, plan.distillation, seed=plan.seed)


def build_step(plan: TrainingPlan, network: Network, *, device: torch.device) -> Step:
    """Return the training step of a network, as the recipe wants it computed."""
    recipe = plan.recipe
    network.to(memory_format=memory_format(network))
    network.set_grad_checkpointing(recipe.recompute_activations)
    criterion = build_criterion(recipe, is_smoothed=plan.augmentation.mixes)
    if isinstance(network, SingleDepthNetwork):
        return SupervisedStep(network, criterion)
    network.set_student_drop_path(plan.distillation.stochastic_depth == "all")
    return SelfDistillation(network, plan.distillation, criterion, build_teacher(plan, device=device))


def build_teacher(plan: TrainingPlan, *, device: torch.device) -> Teacher | None:
    """Return who teaches the super-net of a plan, on a device, if anybody does."""
    if plan.teacher is None:
        return None
    teacher = plan.teacher.build(mean=plan.preprocessing.mean, std=plan.preprocessing.std)
    return teacher.to(device)


def place_step(step: Step, plan: TrainingPlan, *, world_size: int) -> nn.Module:
    """Move a step to this worker's device; returns it under DDP where that is wanted.

    Its network is compiled below DDP, segment by segment, so gradients are reduced while others are computed.
    DDP reduces gradients while the backward pass runs. Sequential passes run several of them, so their
    gradients are reduced once, after the last (see `Updater`).
    """
    recipe = plan.recipe
    if recipe.sync_batch_norm:
        step.network = convert_sync_batchnorm(step.network)
    has_ddp = world_size > 1 and recipe.passes == "joint"
    kwargs = {
        "gradient_as_bucket_view": True,
        # Every worker gathers statistics of its own; they are averaged before anybody reads them.
        "broadcast_buffers": False,
        # A depth drawn at random leaves the norms of others without a gradient.
        "find_unused_parameters": plan.alone is None and plan.distillation.students == "sampled",
    }
    module: nn.Module = prepare_model(
        step,
        parallel_strategy="ddp" if has_ddp else None,
        parallel_strategy_kwargs=kwargs if has_ddp else {},
    )
    if recipe.compile:
        step.network.compile()
    return module


def build_train_loader(plan: TrainingPlan, *, rank: int, world_size: int) -> DataLoader[Any]:
    """Return this worker's training batches."""
    return train_loader(
        load_data_plan(plan.data),
        train_transform(
            plan.preprocessing,
            crop=plan.crop,
            flip_probability=plan.flip_probability,
            augmentation=plan.augmentation,
        ),
        batch_size=plan.recipe.micro_batch_size,
        rank=rank,
        world_size=world_size,
        seed=plan.seed,
        num_loader_workers=plan.recipe.num_loader_workers,
        repeats=plan.augmentation.repeats,
        grain=2 if plan.augmentation.mixes else 1,
    )


def build_validation_loader(plan: TrainingPlan, *, rank: int, world_size: int) -> DataLoader[Any]:
    """Return this worker's validation batches."""
    return validation_loader(
        load_data_plan(plan.data),
        eval_transform(plan.preprocessing),
        batch_size=plan.recipe.micro_batch_size // plan.recipe.workers,
        rank=rank,
        world_size=world_size,
        num_loader_workers=plan.recipe.num_loader_workers,
    )
