"""One set of weights for every split: each computes what an ordinary network of that split would."""

import copy
from dataclasses import replace

import pytest
import torch

from pipeline.networks import NetworkDescription
from pipeline.networks.one_shot import OneShotNetwork

DESCRIPTIONS = {
    "resnet": NetworkDescription(
        "resnet18", 3, image_size=16, small_images=True, kwargs={"layers": [3, 2, 1, 3], "channels": [4] * 4}
    ),
    "mobilenetv2": NetworkDescription("mobilenetv2_050", 3, image_size=32),
    "vit": NetworkDescription(
        "vit_tiny_patch16_224",
        3,
        image_size=8,
        kwargs={"patch_size": 4, "depth": 6, "embed_dim": 16, "num_heads": 2},
        num_stages=2,
    ),
}
IMAGES = {"resnet": (2, 3, 16, 16), "mobilenetv2": (2, 3, 32, 32), "vit": (2, 3, 8, 8)}


@pytest.fixture(params=DESCRIPTIONS)
def case(request):
    torch.manual_seed(0)
    network = OneShotNetwork(DESCRIPTIONS[request.param])
    for parameter in network.skip_norms.parameters():  # or both sets of norms would compute the same
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return network, torch.randn(IMAGES[request.param])


def ordinary(network, split):
    """Return a network that was built for a split, with the one-shot network's weights."""
    built = replace(network.description, split=split).build()
    weights = {name: value for name, value in network.state_dict().items() if name in built.state_dict()}
    built.load_state_dict(weights)
    return built


def test_splits_are_all_that_keep_every_stage_skippable():
    network = OneShotNetwork(DESCRIPTIONS["resnet"])
    assert network.split == (2, 1, 1, 2)
    assert network.splits() == [(1, 1, 1, 1), (1, 1, 1, 2), (2, 1, 1, 1), (2, 1, 1, 2)]


@pytest.mark.parametrize("mode", [True, False])
def test_every_split_computes_what_an_ordinary_network_of_it_computes(case, mode):
    network, images = case
    for split in [network.splits()[0], network.splits()[len(network.splits()) // 2], network.splits()[-1]]:
        expected = ordinary(network, split).train(mode)
        chosen = copy.deepcopy(network).train(mode)
        chosen.choose(split)
        for found in (copy.deepcopy(network).train(mode).view(split), chosen):
            logits = found.forward_profiles(images, found.profiles)
            for profile, value in expected.forward_profiles(images, expected.profiles).items():
                torch.testing.assert_close(logits[profile], value, rtol=1e-5, atol=1e-5)


def test_a_view_costs_what_its_split_costs(case):
    network, _ = case
    split = network.splits()[0]
    expected, view = ordinary(network, split), network.view(split)
    assert [view.cost(profile) for profile in view.profiles] == [
        expected.cost(profile) for profile in expected.profiles
    ]


def test_all_splits_share_their_weights_and_a_step_at_each_reaches_every_weight(case):
    network, images = case
    network.train()
    full, base = network.extremes
    for split in network.splits():
        network.choose(split)
        logits = network.forward_profiles(images, (full, base))
        sum(value.square().sum() for value in logits.values()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(
        parameter.data_ptr() in {own.data_ptr() for own in network.parameters()}
        for parameter in network.view(network.splits()[0]).parameters()
    )


def test_a_copy_has_weights_of_its_own_at_every_split(case):
    network, images = case
    split = network.splits()[0]
    network.eval()
    before = network.view(split)(images, "base")
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    torch.testing.assert_close(network.view(split)(images, "base"), before, rtol=0, atol=0)
    assert other.view(split)(images, "base").abs().max() == 0


@pytest.mark.parametrize("split", [(3, 1, 1, 2), (0, 1, 1, 2), (1, 1)])
def test_other_splits_are_refused(split):
    network = OneShotNetwork(DESCRIPTIONS["resnet"])
    with pytest.raises(ValueError, match=r"split"):
        network.choose(split)
