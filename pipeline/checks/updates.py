"""Two updates of a tiny network by a job's own optimiser and schedule, on this machine's CPU.

What only a GPU takes is left out: optimisers of other packages, `capturable`, and the precision of a job with
GPUs. A process that leads a job must not hold a GPU that its workers need.
"""

import copy
import functools
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from timm.optim import get_optimizer_class, get_optimizer_info

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.recipe import DistillationConfig, TrainingConfig
from pipeline.training.optimisation import build_criterion, build_optimizer, build_scheduler
from pipeline.training.step import SelfDistillation
from pipeline.training.update import Updater

from .attempt import blamed, failure, in_a_line

KEY = "training.optimizer_kwargs"

ELSEWHERE = {
    "opt": "training.optimizer",
    "lr": "training.lr",
    "weight_decay": "training.weight_decay",
    "momentum": "training.momentum",
    "layer_decay": "training.layer_decay",
    "filter_bias_and_bn": "training.decay_all",
    "param_group_fn": "training.decay_all",
}
"""The key of what is an argument of timm's as well."""

NUM_UPDATES = 2
"""The first one makes the optimiser's state, the second one reads it."""

OF_LAYER_DECAY = ("layer_decay_min_scale", "layer_decay_no_opt_scale")
OF_FALLBACK = ("fallback_list", "fallback_no_weight_decay")
FALLBACK = "fallback_lr_scale"
"""What optimisers take that update some parameters as AdamW does."""

SUSPECTS = ("momentum", "precision", "clip_grad", "layer_decay", "ema_decay")
"""Settings that an update depends on, besides the optimiser."""


def update_problems(recipe: TrainingConfig) -> list[str]:
    """Return what is wrong with a recipe's optimiser, its arguments and the schedule."""
    name = recipe.optimizer
    if isinstance(get_optimizer_info(name).opt_class, str):  # of a package that needs a GPU to be imported
        law = f"training.optimizer: {name} runs on GPUs alone, got use_gpu: false"
        return [] if recipe.use_gpu else [f"{law}; write use_gpu: true, or choose another such as adamw"]
    refused = dict(_argument_problems(recipe))
    kwargs = {key: value for key, value in recipe.optimizer_kwargs.items() if key not in refused}
    rest = _as_tried_here(_with(recipe, optimizer_kwargs=kwargs))
    error = _failure(rest)
    told = [] if error is None else _explain(rest, error)
    return [*refused.values(), *told]


def _argument_problems(recipe: TrainingConfig) -> Iterator[tuple[str, str]]:
    """Yield the arguments that belong elsewhere or that timm drops, each with its message."""
    name, info = recipe.optimizer, get_optimizer_info(recipe.optimizer)
    has_fallback = FALLBACK in _own_arguments(name)
    reasons = {
        **({} if info.has_eps else {"eps": f"with optimizer: {name}"}),
        **({} if info.has_betas else {"betas": f"with optimizer: {name}"}),
        **({} if has_fallback else dict.fromkeys(OF_FALLBACK, f"with optimizer: {name}")),
        **({} if recipe.layer_decay else dict.fromkeys(OF_LAYER_DECAY, "without training.layer_decay")),
    }
    for key, value in recipe.optimizer_kwargs.items():
        if key in ELSEWHERE:
            yield key, f"{KEY}: {key} is a setting of its own, got {value!r}; write {ELSEWHERE[key]}"
        elif key in reasons:
            yield key, f"{KEY}: {key} has no effect {reasons[key]}, got {value!r}; leave it out"


def _own_arguments(optimizer: str) -> list[str]:
    """Return the arguments of an optimiser that are not settings of their own."""
    names = inspect.signature(get_optimizer_class(optimizer, bind_defaults=False)).parameters
    return [name for name in names if name not in (*ELSEWHERE, "params")]


def _explain(recipe: TrainingConfig, error: Exception) -> list[str]:
    """Return which setting makes the updates fail: the one without which they do not."""
    name = recipe.optimizer
    found = blamed(
        recipe.optimizer_kwargs, error, lambda kwargs: _failure(_with(recipe, optimizer_kwargs=dict(kwargs)))
    )
    if found:
        return [
            f"{KEY} must be arguments that {name} takes, got {text} ({in_a_line(why)}); leave it out, or "
            f"correct it; {name} takes {', '.join(_own_arguments(name))}"
            for text, why in found.items()
        ]
    for key in filter(recipe.is_changed, SUSPECTS):
        if _failure(_with(recipe, **{key: type(recipe).model_fields[key].default})) is None:
            return [
                f"training.{key} must suit the optimizer, got {getattr(recipe, key)!r} for {name} "
                f"({in_a_line(error)}); leave it out, or choose another optimizer"
            ]
    return [
        f"training.optimizer must train a network, {name} does not ({in_a_line(error)}); sgd, adamw and lamb "
        "are usual"
    ]


def _as_tried_here(recipe: TrainingConfig) -> TrainingConfig:
    """Return a recipe as the CPU can carry it out."""
    if not recipe.use_gpu:
        return recipe
    kwargs = {key: value for key, value in recipe.optimizer_kwargs.items() if key != "capturable"}
    return _with(recipe, optimizer_kwargs=kwargs, precision="float32")


def _with(recipe: TrainingConfig, **values: Any) -> TrainingConfig:  # noqa: ANN401
    return recipe.model_copy(update=values)


def _failure(recipe: TrainingConfig) -> Exception | None:
    return failure(partial(_update_twice, recipe))


def _update_twice(recipe: TrainingConfig) -> None:
    network = copy.deepcopy(_tiny_network())
    step = SelfDistillation(network, DistillationConfig(), build_criterion(recipe, is_smoothed=False))
    # Some of timm's optimisers compile themselves, which takes a minute.
    with torch.compiler.set_stance("force_eager"):
        optimizer = build_optimizer(network, recipe)
        scheduler = build_scheduler(optimizer, recipe, updates_per_epoch=NUM_UPDATES)
        updater = Updater(step, step, optimizer, recipe, device=torch.device("cpu"), world_size=1)
        for update in range(NUM_UPDATES):
            scheduler.step_update(update)
            part = torch.rand(2, *network.input_shape), torch.tensor([0, 1])
            updater.backward([part], [network.extremes[1]])
            updater.apply(update)


@functools.cache
def _tiny_network() -> AdaptiveDepthNetwork:
    """Return a network with a convolution, norms and linear layers, each of a few hundred weights at most."""
    return AdaptiveDepthNetwork.from_timm(
        "vit_tiny_patch16_224",
        num_classes=2,
        image_size=8,
        num_stages=1,
        patch_size=4,
        embed_dim=4,
        depth=2,
        num_heads=1,
    )
