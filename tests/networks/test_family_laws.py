"""Laws that hold for every supported family, on small real networks of each."""

import copy

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.networks.families import FAMILIES
from pipeline.recipe import DistillationConfig
from pipeline.training.step import SelfDistillation
from tests.networks.instances import EXEMPLARS, INSTANCES
from tests.networks.training import as_after_some_training


def marks(family, description):
    """Return those that let one process try a network's laws, and leave most networks to `-m slow`."""
    is_exemplary = family in EXEMPLARS and description is INSTANCES[family][0]
    return [pytest.mark.xdist_group(description.backbone), *([] if is_exemplary else [pytest.mark.slow])]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(description, marks=marks(family, description))
        for family, descriptions in INSTANCES.items()
        for description in descriptions
    ],
    ids=lambda description: description.backbone,
)
def description(request):
    return request.param


@pytest.fixture(scope="module")
def network(description):
    torch.manual_seed(0)
    return as_after_some_training(description.build())


@pytest.fixture(scope="module")
def images(network):
    return torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(1))


def test_every_family_has_two_instances_of_its_class():
    assert INSTANCES.keys() == FAMILIES.keys() >= EXEMPLARS
    assert all(len(descriptions) >= 2 for descriptions in INSTANCES.values())


def test_the_instance_is_of_the_family_that_it_stands_for(network, description):
    assert description in INSTANCES[type(network.backbone).__name__]


@torch.no_grad()
def test_the_super_net_is_the_timm_model_bit_for_bit(network, images):
    plain = copy.deepcopy(network.backbone)
    torch.testing.assert_close(network(images), plain(images), rtol=0, atol=0)


@torch.no_grad()
def test_a_profile_equals_its_static_subnetwork(network, images):
    for profile in network.profiles:
        subnetwork = network.subnetwork(profile)
        torch.testing.assert_close(network(images, profile), subnetwork(images), rtol=0, atol=0)


@torch.no_grad()
def test_a_pooled_state_has_one_number_a_channel_of_its_stage(network, images):
    full, _ = network.extremes
    trace = network.trace_profiles(images, [full])[full]
    pooled = [network.pool_state(state) for state in trace.stages]
    torch.testing.assert_close(trace.logits, network(images), rtol=0, atol=0)
    assert len(pooled) == len(network.layouts)
    known = {info["num_chs"] for info in network.backbone.feature_info}
    # timm tells no channels of stages that keep the resolution, nor those of TNT's pixels.
    norms = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d | nn.GroupNorm)]
    known |= {norm.weight.shape[0] for norm in norms}
    known |= {24} if type(network.backbone).__name__ == "TNT" else set()
    assert {state.shape[1] for state in pooled[:-1]} <= known


def test_a_skip_aware_norm_is_in_the_layer_of_its_norm(network):
    if not hasattr(network.backbone, "group_matcher"):
        pytest.skip("timm does not order the layers of this class")
    layers = group_parameters(network, network.group_matcher(), reverse=True)
    own = group_parameters(network.backbone, network.backbone.group_matcher(), reverse=True)
    for name, _ in network.named_parameters():
        of, _, path = name.partition(".")
        assert layers[name] == layers[f"backbone.{path}"], of
    assert [layers[f"backbone.{path}"] for path in own] == list(own.values())


@torch.no_grad()
def test_no_two_profiles_agree(network, images):
    outputs = network.forward_profiles(images, network.profiles)
    assert len({tuple(logits.flatten().tolist()) for logits in outputs.values()}) == len(network.profiles)
    assert all(logits.isfinite().all() for logits in outputs.values())


def test_one_training_step_gives_every_parameter_a_finite_gradient(description, images):
    torch.manual_seed(0)
    network = description.build().train()
    step = SelfDistillation(network, DistillationConfig(), nn.CrossEntropyLoss(reduction="none"))
    step(images, torch.tensor([0, 1]), network.extremes[1:]).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


@torch.no_grad()
def test_a_state_dict_restores_every_profile(network, description, images):
    again = description.build().eval()
    again.load_state_dict(network.state_dict())
    for profile in network.extremes:
        torch.testing.assert_close(again(images, profile), network(images, profile), rtol=0, atol=0)


@torch.no_grad()
def test_the_backbones_weights_load_into_plain_timm(network, description, images):
    sizes = (
        {"img_size": description.image_size}
        if timm.get_pretrained_cfg(description.backbone).fixed_input_size and description.image_size
        else {}
    )
    plain = timm.create_model(description.backbone, num_classes=7, **sizes, **description.kwargs)
    prefix = "backbone."
    plain.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in network.state_dict().items()
            if name.startswith(prefix)
        }
    )
    torch.testing.assert_close(plain.eval()(images), network(images), rtol=0, atol=0)


@torch.no_grad()
def test_cost_is_what_the_subnetwork_holds_and_computes(network, images):
    for profile in network.extremes:
        subnetwork = copy.deepcopy(network.subnetwork(profile)).requires_grad_(False)
        # The counter knows the products of attention, not every device's fused kernel of them.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            subnetwork(images[:1])
        cost = network.cost(profile)
        assert cost.macs == counter.get_total_flops() // 2
        assert cost.parameters == sum(parameter.numel() for parameter in subnetwork.parameters())


def test_every_norm_of_a_mandatory_path_exists_twice_but_not_those_of_shortcuts(network):
    doubled = dict(network.skip_norms.named_modules())
    for layout, point in zip(network.layouts, network.split, strict=True):
        if point == len(layout.blocks):
            continue
        for block in layout.blocks[:point]:
            for path, module in network.backbone.get_submodule(block).named_modules(prefix=block):
                if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                    assert (path in doubled) is not bool({"downsample", "shortcut"} & set(path.split(".")))
