"""One depth as a network of its own: the same function at the start, its own weights and no others."""

import copy

import pytest
import torch

from pipeline.networks import NetworkDescription
from pipeline.networks.single_depth import SingleDepthNetwork, trained_extremes
from tests.networks.instances import INSTANCES
from tests.networks.training import as_after_some_training

FAMILIES = ("ResNet", "EfficientNet", "VisionTransformer", "SwinTransformer", "ConvNeXt")


@pytest.fixture(scope="module", params=FAMILIES)
def network(request):
    torch.manual_seed(0)
    return as_after_some_training(INSTANCES[request.param][0].build())


def images(network):
    return torch.rand(2, *network.input_shape)


@pytest.mark.parametrize("depth", ["full", "base"])
def test_it_starts_as_the_depth_it_is_made_of(network, depth):
    alone, batch = SingleDepthNetwork(network, depth).eval(), images(network)
    profile = network.parse_profile(depth)
    with torch.no_grad():
        torch.testing.assert_close(alone(batch), network(batch, depth), rtol=0, atol=0)
        assert alone.forward_profiles(batch, [profile])[profile].equal(alone(batch))
    assert trained_extremes(alone) == (profile,)


@pytest.mark.parametrize("depth", ["full", "base"])
def test_it_has_the_parameters_of_that_depth_each_in_use_and_none_shared(network, depth):
    before = copy.deepcopy(network.state_dict())
    alone = SingleDepthNetwork(network, depth).train()
    alone(images(network)).square().sum().backward()
    assert sum(parameter.numel() for parameter in alone.parameters()) == network.cost(depth).parameters
    assert [name for name, parameter in alone.named_parameters() if parameter.grad is None] == []
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter.add_(1)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["ResNet", "SENet", "VisionTransformer"])
def test_activations_computed_again_give_the_same_gradients_and_statistics(family):
    torch.manual_seed(0)
    network = INSTANCES[family][0].build()
    batch, gradients, buffers = images(network), [], []
    for recomputes in (False, True):
        alone = SingleDepthNetwork(network, "base").train()
        alone.set_grad_checkpointing(recomputes)
        torch.manual_seed(1)  # of dropout
        alone(batch).square().sum().backward()
        gradients.append([parameter.grad for parameter in alone.parameters()])
        buffers.append(dict(alone.named_buffers()))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*buffers, rtol=0, atol=0)


@pytest.fixture
def base():
    description = NetworkDescription("resnet18", 3, image_size=16, kwargs={"channels": [4, 4, 4, 4]})
    return SingleDepthNetwork(description.build(), "base")


def test_another_depth_than_its_own_is_refused(base):
    full = type(base.profile).full(4)
    with pytest.raises(ValueError, match="runs that depth, TTTT, got FFFF; ask for TTTT"):
        base.forward_profiles(torch.rand(2, 3, 16, 16), [full])


def test_its_description_says_which_depth_it_is(base):
    assert base.description.to_dict()["alone"] == "TTTT"
    assert base.description.to_dict()["backbone"] == "resnet18"
