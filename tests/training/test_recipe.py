import pytest
import torch
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.recipe import TrainingConfig
from pipeline.training.optimisation import build_criterion, build_optimizer, build_scheduler


@pytest.fixture
def network(tiny_vit):
    return tiny_vit(depth=4)


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


def _decays(network, **settings):
    """Return the weight decay of every parameter by name."""
    recipe = TrainingConfig(epochs=1, weight_decay=0.01, **settings)
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(network, recipe).param_groups
        for parameter in group["params"]
    }
    return {name: decays[id(parameter)] for name, parameter in network.named_parameters()}


@pytest.fixture(scope="session")
def resnet():
    return AdaptiveDepthNetwork.from_timm("resnet18", num_classes=3, image_size=32, channels=[8, 8, 8, 8])


def test_of_a_resnet_kernels_alone_are_decayed_and_no_norm_or_bias(resnet):
    decays, weights = _decays(resnet), dict(resnet.named_parameters())
    assert {name for name, decay in decays.items() if decay} == {
        name for name, weight in weights.items() if weight.ndim > 1
    }
    assert decays["backbone.fc.bias"] == decays["skip_norms.layer1.0.bn1.weight"] == 0


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("backbone", ["resnet", "network"])
def test_decay_all_decays_every_parameter(backbone, layer_decay, request):
    decays = _decays(request.getfixturevalue(backbone), decay_all=True, layer_decay=layer_decay)
    assert set(decays.values()) == {0.01}


def test_decay_all_leaves_rates_of_layers_as_they_are(network):
    def scales(**settings):
        optimizer = build_optimizer(network, TrainingConfig(epochs=1, layer_decay=0.5, **settings))
        return {
            id(weight): group["lr_scale"] for group in optimizer.param_groups for weight in group["params"]
        }

    assert scales(decay_all=True) == scales()


@pytest.mark.parametrize(("optimizer", "is_nesterov"), [("momentum", False), ("sgd", True)])
def test_momentum_is_plain_sgd_and_sgd_is_nesterovs(network, optimizer, is_nesterov):
    built = build_optimizer(network, TrainingConfig(epochs=1, optimizer=optimizer))
    assert (type(built), built.defaults["nesterov"]) == (torch.optim.SGD, is_nesterov)


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


def test_step_multiplies_the_rate_at_equal_distances(network):
    recipe = TrainingConfig(epochs=10, lr=1.0, schedule="step", step_epochs=4, decay_rate=0.1)
    assert _rates(network, recipe, [38, 41, 78, 81]) == pytest.approx([1.0, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("schedule", ["cosine", "poly", "tanh"])
def test_smooth_schedules_end_at_the_smallest_rate(network, schedule):
    recipe = TrainingConfig(epochs=10, lr=1.0, schedule=schedule, min_lr=0.01)
    rates = _rates(network, recipe, range(0, 100, 10))
    assert rates == sorted(rates, reverse=True)
    assert _rates(network, recipe, [100])[-1] == pytest.approx(0.01)


def test_layer_decay_lowers_the_rate_towards_the_stem_for_both_sets_of_norms(network):
    recipe = TrainingConfig(epochs=1, lr=1.0, layer_decay=0.5)
    scales = {
        id(parameter): group["lr_scale"]
        for group in build_optimizer(network, recipe).param_groups
        for parameter in group["params"]
    }
    parameters = dict(network.named_parameters())
    names = ("backbone.patch_embed.proj.weight", "backbone.blocks.0.norm1.weight", "backbone.head.weight")
    stem, first, head = (scales[id(parameters[name])] for name in names)
    assert stem < first < head == 1.0
    assert scales[id(parameters["skip_norms.blocks.0.norm1.weight"])] == first


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "lion", "muon"])
def test_optimisers_are_those_of_timm_by_name(network, optimizer):
    recipe = TrainingConfig(epochs=1, optimizer=optimizer)
    assert type(build_optimizer(network, recipe)).__name__.lower() == optimizer


def test_further_arguments_reach_the_optimiser(network):
    recipe = TrainingConfig(epochs=1, optimizer="adamw", optimizer_kwargs={"betas": [0.8, 0.95]})
    assert list(build_optimizer(network, recipe).defaults["betas"]) == [0.8, 0.95]


def test_torchs_own_optimisers_update_all_weights_in_one_kernel_unless_told_otherwise(network):
    def is_fused(optimizer, **kwargs):
        recipe = TrainingConfig(epochs=1, optimizer=optimizer, optimizer_kwargs=kwargs)
        return build_optimizer(network, recipe).defaults.get("fused")

    assert is_fused("sgd")
    assert is_fused("adamw")
    assert not is_fused("sgd", foreach=True)
    assert not is_fused("adamw", fused=False)
    assert is_fused("lamb") is None


def test_bce_asks_of_every_class_whether_it_is_there():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = build_criterion(TrainingConfig(epochs=1, loss="bce"), is_smoothed=False)(logits, labels)
    by_hand = functional.binary_cross_entropy_with_logits(logits, functional.one_hot(labels, 3).float())
    assert loss.shape == (4,)
    assert loss.mean().item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize(("is_smoothed", "smoothing"), [(True, 0.0), (False, 0.2)])
def test_labels_are_smoothed_once(is_smoothed, smoothing):
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    criterion = build_criterion(TrainingConfig(epochs=1, label_smoothing=0.2), is_smoothed=is_smoothed)
    by_hand = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert criterion(logits, labels).mean().item() == pytest.approx(by_hand.item())
