import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers

from pipeline.checks.updates import update_problems
from pipeline.recipe import TrainingConfig

ON_CPUS = [name for name in list_optimizers() if not isinstance(get_optimizer_info(name).opt_class, str)]


@pytest.mark.parametrize("optimizer", sorted({*ON_CPUS} - {"adahessian"}))
def test_every_optimiser_that_trains_is_accepted(optimizer):
    assert update_problems(TrainingConfig(epochs=2, optimizer=optimizer)) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_grad": 1.0},
        {"clip_grad": 0.01, "clip_mode": "agc"},
        {"clip_grad": 0.1, "clip_mode": "value"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"passes": "sequential", "ema_decay": 0.99},
        {"layer_decay": 0.7, "optimizer_kwargs": {"layer_decay_min_scale": 0.1}},
        {"loss": "bce", "label_smoothing": 0.1},
        {"optimizer": "momentum", "momentum": 0.0},
        {"optimizer": "muon", "optimizer_kwargs": {"fallback_list": ["*head*"], "ns_steps": 3}},
        {"optimizer": "adamw", "optimizer_kwargs": {"betas": [0.9, 0.95], "eps": 1e-6, "foreach": True}},
        {"schedule": "multistep", "milestones": (2, 3)},
        {"schedule": "step", "step_epochs": 2},
        {"schedule": "poly", "min_lr": 1e-5, "warmup_epochs": 2},
        {"schedule": "tanh"},
    ],
)
def test_settings_that_train_are_accepted(settings):
    assert update_problems(TrainingConfig(epochs=4, **settings)) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "bnbadamw8bit"},
        {"precision": "fp16"},
        {"optimizer": "adamw", "optimizer_kwargs": {"capturable": True}},
    ],
)
def test_what_only_a_gpu_takes_is_left_to_it(settings):
    assert update_problems(TrainingConfig(epochs=4, use_gpu=True, **settings)) == []


def test_random_states_stay_as_they_were():
    before = torch.get_rng_state()
    update_problems(TrainingConfig(epochs=2))
    assert torch.equal(torch.get_rng_state(), before)
