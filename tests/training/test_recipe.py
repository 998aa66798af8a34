import pytest

from pipeline.config import TrainingConfig
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.training.session import build_optimizer, build_scheduler


@pytest.fixture
def network():
    return AdaptiveDepthNetwork.from_timm(
        "vit_tiny_patch16_224",
        num_classes=3,
        image_size=8,
        patch_size=4,
        depth=4,
        embed_dim=8,
        num_heads=1,
    )


def _rates(network, recipe, updates):
    optimizer = build_optimizer(network, recipe)
    scheduler = build_scheduler(optimizer, recipe, updates_per_epoch=10)
    rates = []
    for update in updates:
        scheduler.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_norms_biases_and_position_embeddings_are_not_decayed(network, optimizer):
    recipe = TrainingConfig(epochs=1, optimizer=optimizer, weight_decay=0.01)
    free = {
        id(parameter)
        for group in build_optimizer(network, recipe).param_groups
        if group["weight_decay"] == 0
        for parameter in group["params"]
    }
    names = {name for name, parameter in network.named_parameters() if id(parameter) in free}
    assert {"backbone.pos_embed", "backbone.cls_token", "skip_norms.blocks.0.norm1.weight"} <= names
    assert not any(name.endswith("qkv.weight") for name in names)


def test_cosine_rises_linearly_and_falls_to_zero(network):
    recipe = TrainingConfig(epochs=10, lr=1.0, warmup_epochs=2)
    start, half, peak, end = _rates(network, recipe, [0, 10, 20, 100])
    assert start == pytest.approx(0.01)
    assert half == pytest.approx((0.01 + 1.0) / 2)
    assert 0.9 < peak <= 1.0
    assert end == 0.0


def test_multistep_multiplies_the_rate_at_its_milestones(network):
    recipe = TrainingConfig(epochs=10, lr=1.0, schedule="multistep", milestones=(4, 8), decay_rate=0.1)
    # timm counts updates from 1, so the rate falls with the last update before a milestone.
    assert _rates(network, recipe, [38, 39, 78, 79]) == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_a_learning_rate_depends_on_the_update_alone(network):
    recipe = TrainingConfig(epochs=10, lr=1.0)
    assert _rates(network, recipe, [50])[-1] == _rates(network, recipe, [0, 10, 20, 50])[-1]
