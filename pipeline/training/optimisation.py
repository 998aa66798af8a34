"""timm's optimisers, schedules and losses, as a recipe names them."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.loss import BinaryCrossEntropy
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from pipeline.networks.single_depth import Network, SingleDepthNetwork
from pipeline.recipe import TrainingConfig

WARMUP_START = 0.01
"""Share of the peak learning rate at which a warm-up starts; chosen."""


def build_optimizer(network: Network, recipe: TrainingConfig) -> Optimizer:
    """Return timm's optimiser.

    Norms and biases, skip-aware ones included, and position embeddings are not decayed, unless the recipe
    says so. Torch's own optimisers update all weights in one kernel.
    """
    kwargs = dict(recipe.optimizer_kwargs)
    if "fused" in inspect.signature(get_optimizer_class(recipe.optimizer, bind_defaults=False)).parameters:
        kwargs.setdefault("fused", "foreach" not in kwargs)
    optimizer: Optimizer = create_optimizer_v2(
        network.backbone if isinstance(network, SingleDepthNetwork) else network,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        layer_decay=recipe.layer_decay,
        param_group_fn=partial(_decay_all, recipe=recipe) if recipe.decay_all else None,
        **kwargs,
    )
    if isinstance(optimizer, SGD) and optimizer.defaults["fused"] and optimizer.defaults["momentum"]:
        _start_momentum(optimizer)
    return optimizer


def _decay_all(network: nn.Module, recipe: TrainingConfig) -> list[dict[str, Any]]:
    """Return timm's parameter groups with the same weight decay for all.

    timm's own switch, `filter_bias_and_bn`, still leaves out what `no_weight_decay` names.
    """
    rule = {"weight_decay": recipe.weight_decay, "weight_decay_exclude_1d": False}
    groups: list[dict[str, Any]] = (
        param_groups_weight_decay(network, **rule)
        if recipe.layer_decay is None
        else param_groups_layer_decay(network, layer_decay=recipe.layer_decay, **rule)
    )
    return groups


def _start_momentum(optimizer: SGD) -> None:
    """Give every parameter a momentum of zero, which without dampening changes no update.

    Torch's fused SGD breaks where some parameters have one and others do not yet, such as norms of a depth or
    split that no update has drawn so far.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def build_scheduler(optimizer: Optimizer, recipe: TrainingConfig, *, updates_per_epoch: int) -> Scheduler:
    """Return timm's schedule over optimiser updates: linear warm-up, then what the recipe names."""
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=recipe.schedule,
        num_epochs=recipe.epochs,
        decay_milestones=recipe.milestones,
        decay_epochs=recipe.step_epochs,
        # timm takes the power of poly from the same argument; 1 is the usual straight line.
        decay_rate=1.0 if recipe.schedule == "poly" else recipe.decay_rate,
        min_lr=recipe.min_lr,
        warmup_lr=recipe.lr * WARMUP_START,
        warmup_epochs=recipe.warmup_epochs,
        warmup_prefix=False,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler


def build_criterion(recipe: TrainingConfig, *, is_smoothed: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of the targets, image by image: see `step.Criterion`.

    Args:
        recipe: Names it.
        is_smoothed: Whether label smoothing is in the targets already, as with mixed images.
    """
    smoothing = 0.0 if is_smoothed else recipe.label_smoothing
    if recipe.loss == "bce":
        by_class = BinaryCrossEntropy(smoothing=smoothing, reduction="none")
        return lambda logits_BC, targets: by_class(logits_BC, targets).mean(dim=1)
    return nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
