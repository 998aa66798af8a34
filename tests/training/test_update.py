"""However an update is computed, the weights it gives are those of the plain one."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pipeline.recipe import DistillationConfig, TrainingConfig
from pipeline.training.optimisation import build_optimizer
from pipeline.training.step import SelfDistillation
from pipeline.training.update import Updater

CPU = torch.device("cpu")
IMAGES, LABELS = torch.rand(8, 3, 8, 8), torch.tensor([0, 1, 2, 0, 2, 1, 0, 1])


@pytest.fixture
def start(tiny_vit):
    return tiny_vit()


def _updater(start, *, compiled=False, world_size=1, **recipe):
    network = copy.deepcopy(start)
    recipe = TrainingConfig(epochs=1, batch_size=len(IMAGES), lr=0.1, weight_decay=0.0, **recipe)
    step = SelfDistillation(network, DistillationConfig(features=1.0), nn.CrossEntropyLoss(reduction="none"))
    if compiled:
        network.compile()
    optimizer = build_optimizer(network, recipe)
    return network, Updater(step, step, optimizer, recipe, device=CPU, world_size=world_size)


def _updated(start, *, num_updates=2, **settings):
    network, updater = _updater(start, **settings)
    num_parts = settings.get("accumulation_steps", 1)
    parts = list(zip(IMAGES.chunk(num_parts), LABELS.chunk(num_parts), strict=True))
    losses = []
    for update in range(num_updates):
        losses.append(updater.backward(parts, network.extremes[1:]).item())
        updater.apply(update)
    return network.state_dict(), losses


@pytest.mark.parametrize(
    "settings",
    [
        {"passes": "sequential"},
        {"accumulation_steps": 4},
        {"accumulation_steps": 2, "passes": "sequential"},
        {"clip_grad": 1e6},
    ],
)
def test_the_way_of_computing_changes_nothing(start, settings):
    expected, expected_losses = _updated(start)
    weights, losses = _updated(start, **settings)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_unlike_shares_have_the_batchs_mean(start):
    expected, expected_losses = _updated(start, num_updates=1)
    loss, gradients = 0.0, None
    for part in (slice(0, 5), slice(5, 8)):  # what DDP does with two workers
        network, updater = _updater(start, world_size=2)
        loss += updater.backward([(IMAGES[part], LABELS[part])], network.extremes[1:]).item() / 2
        own = [parameter.grad / 2 for parameter in network.parameters()]
        gradients = own if gradients is None else [sum(pair) for pair in zip(gradients, own, strict=True)]
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    updater.apply(0)
    assert [loss] == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(network.state_dict(), expected, rtol=1e-4, atol=1e-6)


# torch's compiler looks at gradients that are not there yet.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("passes", ["joint", pytest.param("sequential", marks=pytest.mark.slow)])
def test_a_compiled_step_gives_the_same_weights(tiny_vit, passes):
    small = tiny_vit(depth=2, num_stages=1)
    expected, _ = _updated(small)
    counters.clear()
    weights, _ = _updated(small, compiled=True, passes=passes)
    assert counters["stats"]["unique_graphs"] > 2
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("passes", ["joint", "sequential"])
def test_half_precision_stays_near_the_weights_of_the_full_one(start, precision, passes):
    expected, _ = _updated(start)
    weights, _ = _updated(start, precision=precision, passes=passes)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    torch.testing.assert_close(weights, expected, rtol=0.1, atol=0.02)


def test_a_scaler_skips_an_update_whose_gradient_overflows(start):
    network, updater = _updater(start, precision="fp16")
    before, scale = copy.deepcopy(network.state_dict()), updater.scaler.get_scale()
    updater.backward([(IMAGES, LABELS)], network.extremes[1:])
    next(network.parameters()).grad.fill_(torch.inf)
    updater.apply(0)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert updater.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_clipping_limits_how_far_weights_move(start, mode):
    before = start.state_dict()
    free, _ = _updated(start, num_updates=1)
    clipped, _ = _updated(start, num_updates=1, clip_grad=1e-4, clip_mode=mode)

    def moved(weights):
        return sum((weights[name] - before[name]).norm().item() for name in before)

    assert 0 < moved(clipped) < 0.1 * moved(free)


def _moves(start, **settings):
    """Return how far one update moves every weight."""
    before = copy.deepcopy(start.state_dict())
    after, _ = _updated(start, num_updates=1, optimizer="momentum", momentum=0.0, **settings)
    return {name: weight - before[name] for name, weight in after.items()}


def test_adaptive_clipping_spares_the_classifier_alone(start):
    free, clipped = _moves(start), _moves(start, clip_grad=1e-4, clip_mode="agc")
    as_before = {name for name, move in clipped.items() if move.any() and move.equal(free[name])}
    assert as_before == {"backbone.head.weight", "backbone.head.bias"}


def test_the_average_follows_the_weights_slowly(start):
    network, updater = _updater(start, ema_decay=0.9)
    for update in range(5):
        updater.backward([(IMAGES, LABELS)], network.extremes[1:])
        updater.apply(update)
    name = "skip_norms.blocks.0.norm1.weight"
    first, last = (weights.state_dict()[name] for weights in (start, network))
    average = updater.ema.module.state_dict()[name]
    assert 0 < (average - first).norm() < (last - first).norm()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_norms_that_no_update_has_drawn_so_far_stay_as_they_are_and_break_none(start, optimizer):
    network, updater = _updater(start, optimizer=optimizer)
    before = copy.deepcopy(network.state_dict())
    for update, letters in enumerate(["TFFF", "FTFF", "FTFF"]):
        updater.backward([(IMAGES, LABELS)], [network.parse_profile(letters)])
        updater.apply(update)
    changed = {name for name, weights in network.state_dict().items() if not weights.equal(before[name])}
    blocks = {name.split(".")[2] for name in changed if name.startswith("skip_norms.")}
    assert blocks == {"0", "2"}  # the mandatory ones of the two stages that were skipped
