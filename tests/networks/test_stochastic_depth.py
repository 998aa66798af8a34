"""Where blocks are dropped in training: in all depths, or in what the super-net computes alone."""

import copy
import pickle
from collections import defaultdict
from dataclasses import replace

import cloudpickle
import pytest
import torch
from timm.layers import DropPath
from timm.utils import ModelEmaV3

from pipeline.networks import NetworkDescription
from pipeline.networks.one_shot import OneShotNetwork
from pipeline.networks.profiles import SKIPPED, WHOLE
from pipeline.training.origin import looking
from tests.networks.instances import EXEMPLARS, INSTANCES, TINY_SWIN, TINY_VIT
from tests.networks.training import as_after_some_training

RATE = {"drop_path_rate": 0.5}
NETWORKS = {
    "resnet": NetworkDescription("resnet18", 5, image_size=64, kwargs={"channels": [8, 8, 16, 16], **RATE}),
    "vit": NetworkDescription("vit_tiny_patch16_224", 5, image_size=64, kwargs={**TINY_VIT, **RATE}),
    "swin": NetworkDescription(
        "swin_tiny_patch4_window7_224", 5, image_size=56, kwargs={**TINY_SWIN, **RATE}
    ),
    "mobilenet, whose stem and head follow letters": NetworkDescription(
        "mobilenetv2_035", 5, image_size=64, kwargs=RATE
    ),
}
HAVE_NO_DROP_PATH = {
    "EfficientVit",
    "EfficientVitLarge",
    "EfficientVitMsra",
    "GhostNet",
    "LCNetV2",
    "RepGhostNet",
    "RepVit",
    "SENet",
    "SHViT",
}
"""Families whose timm classes take no `drop_path_rate`."""


@pytest.fixture(params=NETWORKS)
def network(request):
    """A network in training mode that drops blocks of its super-net alone."""
    return prepared(NETWORKS[request.param])


@pytest.fixture
def images(network):
    return torch.rand(8, *network.input_shape, generator=torch.Generator().manual_seed(1))


def prepared(description):
    torch.manual_seed(0)
    network = as_after_some_training(description.build()).train()
    network.set_student_drop_path(False)
    return network


def without_stochastic_depth(network):
    """Return an ordinary network of the same weights that drops nothing at all."""
    kwargs = {**network.description.kwargs, "drop_path_rate": 0.0}
    plain = replace(network.description, kwargs=kwargs).build().to(next(network.parameters()).dtype)
    plain.load_state_dict(network.state_dict())
    return plain.train(network.training)


def draws(network, images, profile):
    """Return whether two passes of the same images differ."""
    with torch.no_grad():
        return not network(images, profile).equal(network(images, profile))


def test_the_base_net_draws_nothing_while_the_super_net_does(network, images):
    assert draws(network, images, "full")
    assert not draws(network, images, "base")


def test_all_depths_draw_unless_told_otherwise(network, images):
    network.set_student_drop_path(True)
    assert draws(network, images, "full")
    assert draws(network, images, "base")
    assert network.description.build().students_drop_paths


@pytest.mark.parametrize("others", [SKIPPED, WHOLE])
def test_a_student_trains_as_in_a_network_without_stochastic_depth(network, images, others):
    letters = SKIPPED + others * (network.num_skippable_stages - 1)
    plain = without_stochastic_depth(network)
    for one in (network, plain):
        one(images, letters).square().sum().backward()
    gradients = [{name: p.grad for name, p in one.named_parameters()} for one in (network, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    torch.testing.assert_close(dict(network.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)


def test_what_a_student_shares_with_the_super_net_is_the_super_nets(network, images):
    full, base = network.extremes
    late = network.parse_profile(full.letters[:-1] + SKIPPED)
    traces = network.trace_profiles(images, (full, late, base))
    assert traces[late].stages[0] is traces[full].stages[0]
    assert draws(network, images, late)


@torch.no_grad()
def test_evaluation_is_that_of_any_network(network, images):
    plain = without_stochastic_depth(network.eval())
    logits = network.forward_profiles(images, network.profiles)
    torch.testing.assert_close(logits, plain.forward_profiles(images, network.profiles), rtol=0, atol=0)


def test_static_sub_networks_keep_timms_layers(network):
    for profile in network.profiles:
        whole = dict(network.backbone.named_modules())
        layers = [layer for layer in network.subnetwork(profile).modules() if isinstance(layer, DropPath)]
        assert layers
        assert {id(layer) for layer in layers} <= {id(layer) for layer in whole.values()}


def rates_by_path(network, profile):
    """Return the probabilities of all layers of stochastic depth that a profile runs, by path."""
    rates = defaultdict(list)
    state = torch.rand(2, *network.input_shape)
    for segment in range(network.num_segments):
        path = network.path(segment, profile)

        def look(layer, *_, path=path):
            if isinstance(layer, DropPath):
                rates[path].append(layer.drop_prob)

        with looking(look):
            state = network.run_segment(segment, state, path)
    return rates


def changed(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    return network


def reloaded(network):
    weights = {name: 0.9 * value for name, value in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return network


def averaged(network):
    average = ModelEmaV3(network, decay=0.5)
    average.update(changed(network))
    return average.module.train()


@pytest.mark.parametrize(
    "treat",
    [
        changed,
        reloaded,
        averaged,
        copy.deepcopy,
        lambda network: pickle.loads(cloudpickle.dumps(network)),
        lambda network: network.double(),
        lambda network: network.eval().train(),
        lambda network: network.with_path_statistics(),
    ],
    ids=["changed", "reloaded", "averaged", "copied", "pickled", "double", "mode", "path statistics"],
)
def test_whatever_is_done_to_a_network_reaches_its_students(network, images, treat):
    network(images, "base")
    treated = treat(network)
    plain = without_stochastic_depth(treated)
    images = images.to(next(treated.parameters()).dtype)
    for mode in (True, False):
        expected = plain.train(mode)(images, "base")
        torch.testing.assert_close(treated.train(mode)(images, "base"), expected, rtol=0, atol=0)
    assert {name.split(".")[0] for name in treated.state_dict()} <= {
        "backbone",
        "skip_norms",
        "path_statistics",
    }


def test_a_network_that_drops_nothing_has_the_same_forms_either_way(network):
    plain = without_stochastic_depth(network)

    def forms():
        places = [(segment, path) for segment in range(plain.num_segments) for path in plain.paths(segment)]
        ids = [id(plain.form(*place)) for place in places]
        return [ids.index(one) for one in ids]

    before = forms()
    plain.set_student_drop_path(False)
    assert forms() == before
    assert network.drops_paths
    assert not plain.drops_paths


@pytest.mark.parametrize("is_chosen_before", [True, False])
def test_every_split_of_a_one_shot_network_follows(is_chosen_before):
    torch.manual_seed(0)
    network = as_after_some_training(OneShotNetwork(NETWORKS["resnet"])).train()
    images = torch.rand(8, *network.input_shape)
    smallest = network.splits()[0]
    if is_chosen_before:
        network.view(smallest)
    network.set_student_drop_path(False)
    network.choose(smallest)
    assert draws(network, images, "full")
    assert not draws(network, images, "base")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[] if family in EXEMPLARS else [pytest.mark.slow])
        for family in sorted(INSTANCES.keys() - HAVE_NO_DROP_PATH)
    ],
)
def test_no_layer_of_any_family_drops_behind_the_first_skipped_stage(family):
    description = INSTANCES[family][0]
    network = prepared(replace(description, kwargs={**description.kwargs, **RATE}))
    full, base = (rates_by_path(network, profile) for profile in network.extremes)
    assert any(map(any, full.values()))
    assert [path for path, rates in base.items() if SKIPPED in path and any(rates)] == []
