"""What one training worker holds: network, optimiser, schedule and loaders on its device."""

from dataclasses import dataclass
from typing import Any

import torch
from ray import train
from ray.train.torch import get_device, prepare_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from pipeline.config import TrainingConfig
from pipeline.data.loading import train_loader, validation_loader
from pipeline.data.plan import DataPlan
from pipeline.data.transforms import eval_transform, train_transform
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.adaptive import memory_format

from .determinism import be_deterministic
from .distillation import SelfDistillation
from .health import HealthWatch
from .initial_weights import load_initial_weights
from .plan import TrainingPlan


@dataclass
class Session:
    """What a worker holds through a run.

    Attributes:
        plan: What to train.
        rank: This worker, from 0.
        world_size: Number of workers.
        device: Where this worker computes.
        network: The network that learns.
        step_module: Its training step, wrapped for several workers.
        optimizer: Over all parameters of the network.
        scheduler: Of the learning rate, by optimiser update.
        train_batches: This worker's part of every global batch.
        validation_batches: This worker's part of the validation images.
        profiles: Which depths are validated after an epoch.
        board: Handle of a `ProgressBoard`, or None.
        health: Looks at every step's loss and gradient.
    """

    plan: TrainingPlan
    rank: int
    world_size: int
    device: torch.device
    network: AdaptiveDepthNetwork
    step_module: nn.Module
    optimizer: Optimizer
    scheduler: Scheduler
    train_batches: DataLoader[Any]
    validation_batches: DataLoader[Any]
    profiles: tuple[DepthProfile, ...]
    board: Any
    health: HealthWatch


def open_session(plan: TrainingPlan, board: Any) -> Session:  # noqa: ANN401
    """Build everything on this worker's device; must run in a Ray Train worker."""
    if plan.recipe.deterministic:
        be_deterministic()
    context = train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.recipe.num_threads)
    network = build_network(plan)
    step_module = build_step_module(network, plan.recipe, world_size=world_size)
    train_batches, validation_batches = build_loaders(plan, rank=rank, world_size=world_size)
    optimizer = build_optimizer(network, plan.recipe)
    return Session(
        plan=plan,
        rank=rank,
        world_size=world_size,
        device=get_device(),
        network=network,
        step_module=step_module,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, plan.recipe, updates_per_epoch=len(train_batches)),
        train_batches=train_batches,
        validation_batches=validation_batches,
        profiles=network.profiles if plan.validates_all_profiles else network.extremes,
        board=board,
        health=HealthWatch(
            network,
            optimizer,
            device=get_device(),
            rank=rank,
            world_size=world_size,
            board=board,
            precision=plan.recipe.precision,
        ),
    )


def build_network(plan: TrainingPlan) -> AdaptiveDepthNetwork:
    """Return the network of a plan with its initial weights."""
    network = plan.network.build()
    if plan.initial_weights is not None:
        load_initial_weights(plan.initial_weights, network)
    return network


def build_step_module(network: AdaptiveDepthNetwork, recipe: TrainingConfig, *, world_size: int) -> nn.Module:
    """Return the training step of a network on this worker's device, under DDP where there are several."""
    network.to(memory_format=memory_format(network))
    step = SelfDistillation(
        network,
        alpha=recipe.alpha,
        temperature=recipe.temperature,
        label_smoothing=recipe.label_smoothing,
    )
    is_alone = world_size == 1
    module: nn.Module = prepare_model(
        step,
        parallel_strategy=None if is_alone else "ddp",
        parallel_strategy_kwargs={} if is_alone else {"gradient_as_bucket_view": True},
    )
    return module


def build_loaders(
    plan: TrainingPlan, *, rank: int, world_size: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return this worker's training and validation batches."""
    data = DataPlan.load(plan.data)
    num_loader_workers = plan.recipe.num_loader_workers
    train_batches = train_loader(
        data,
        train_transform(plan.preprocessing, crop=plan.crop, flip_probability=plan.flip_probability),
        batch_size=plan.recipe.batch_size,
        rank=rank,
        world_size=world_size,
        seed=plan.seed,
        num_loader_workers=num_loader_workers,
    )
    validation_batches = validation_loader(
        data,
        eval_transform(plan.preprocessing),
        batch_size=plan.recipe.batch_size // world_size,
        rank=rank,
        world_size=world_size,
        num_loader_workers=num_loader_workers,
    )
    return train_batches, validation_batches


def build_optimizer(network: AdaptiveDepthNetwork, recipe: TrainingConfig) -> Optimizer:
    """Return timm's optimiser; norms and biases, skip-aware ones included, are not decayed."""
    optimizer: Optimizer = create_optimizer_v2(
        network,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
    )
    return optimizer


def build_scheduler(optimizer: Optimizer, recipe: TrainingConfig, *, updates_per_epoch: int) -> Scheduler:
    """Return timm's schedule over optimiser updates: linear warm-up, then cosine to 0 or steps."""
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=recipe.schedule,
        num_epochs=recipe.epochs,
        decay_milestones=recipe.milestones,
        decay_rate=recipe.decay_rate,
        min_lr=0.0,
        warmup_lr=recipe.lr / 100,
        warmup_epochs=recipe.warmup_epochs,
        warmup_prefix=False,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler
