"""The presets' setting is the paper's rule: a plain loop, written here, ends with the same weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config import load_job
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.training.optimisation import build_criterion, build_optimizer
from pipeline.training.step import SelfDistillation
from pipeline.training.update import Updater

NUM_CLASSES, TOP_K, STEPS, BATCH_SIZE = 12, 5, 3, 16
NETWORKS = {
    "resnet50": ("resnet18", {"channels": (8, 8, 8, 8)}),
    "mobilenetv2": ("mobilenetv2_035", {}),
    "vit_base": ("vit_tiny_patch16_224", {"depth": 8, "embed_dim": 16, "num_heads": 2}),
    "swin_tiny": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": (2, 2, 2), "num_heads": (1, 2, 2), "window_size": 4, "drop_path_rate": 0},
    ),
}


@pytest.fixture(params=NETWORKS)
def preset(request):
    """The sections of a preset that decide what is computed, for a few images on one worker."""
    job = load_job(request.param)
    recipe = job.training.model_copy(
        update={"batch_size": BATCH_SIZE, "accumulation_steps": 1, "workers": 1, "precision": "float32"}
    )
    return request.param, recipe, job.distillation.model_copy(update={"top_k": TOP_K})


@pytest.fixture
def network(preset):
    torch.manual_seed(0)
    name, kwargs = NETWORKS[preset[0]]
    network = AdaptiveDepthNetwork.from_timm(name, num_classes=NUM_CLASSES, image_size=64, **kwargs)
    return network.double().train()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.rand(BATCH_SIZE, 3, 64, 64, generator=generator, dtype=torch.float64),
            torch.randint(NUM_CLASSES, (BATCH_SIZE,), generator=generator),
        )
        for _ in range(STEPS)
    ]


def decayed(name, weight, recipe, network):
    """Say whether a weight decays: all of them, or matrices alone, but for those that timm spares."""
    return recipe.decay_all or (weight.ndim > 1 and name not in network.no_weight_decay())


def plain_optimizer(network, recipe):
    groups = [
        {
            "params": [weight],
            "weight_decay": recipe.weight_decay if decayed(name, weight, recipe, network) else 0.0,
        }
        for name, weight in network.named_parameters()
    ]
    if recipe.optimizer == "momentum":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.lr)


def textbook(network, batches, recipe):
    """Train by the paper's rule, section 3.3: two passes, two losses, one update."""
    optimizer = plain_optimizer(network, recipe)
    for images, labels in batches:
        optimizer.zero_grad()
        full = network(images)
        loss = functional.cross_entropy(full, labels, label_smoothing=recipe.label_smoothing)
        (0.5 * loss).backward()
        teacher, classes = full.detach().topk(TOP_K)
        wanted = teacher.softmax(dim=1)
        student = network(images, "base").gather(1, classes).log_softmax(dim=1)
        divergence = (wanted * (wanted.log() - student)).sum(dim=1).mean()
        (0.5 * divergence).backward()
        if recipe.clip_grad:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_grad)
        optimizer.step()


def ours(network, batches, recipe, rule):
    step = SelfDistillation(network, rule, build_criterion(recipe, is_smoothed=False))
    optimizer = build_optimizer(network, recipe)
    updater = Updater(step, step, optimizer, recipe, device=torch.device("cpu"), world_size=1)
    for number, batch in enumerate(batches):
        updater.backward([batch], network.extremes[1:])
        updater.apply(number)


def test_three_steps_end_with_the_weights_and_statistics_of_a_plain_loop(preset, network, batches):
    _, recipe, rule = preset
    plain = copy.deepcopy(network)
    textbook(plain, batches, recipe)
    start = copy.deepcopy(network.state_dict())
    ours(network, batches, recipe, rule)
    assert all(not weight.equal(start[name]) for name, weight in network.named_parameters())
    torch.testing.assert_close(network.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)
