"""Laws that hold for every supported family, on one small real network each."""

import copy
import pickle
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.training.distillation import SelfDistillation

NETWORKS = {
    # zero_init_last would make every block of an untrained network the identity, and all profiles alike.
    "resnet": NetworkDescription(
        "resnet18",
        7,
        image_size=24,
        small_images=True,
        kwargs={"layers": [3, 2, 1, 2], "channels": [8, 8, 16, 16], "zero_init_last": False},
    ),
    "resnet-bottleneck": NetworkDescription(
        "resnet50",
        7,
        image_size=48,
        kwargs={"layers": [2, 3, 2, 2], "channels": [8, 8, 8, 8], "zero_init_last": False},
    ),
    "vit": NetworkDescription(
        "vit_tiny_patch16_224",
        7,
        image_size=16,
        kwargs={"patch_size": 4, "depth": 8, "embed_dim": 16, "num_heads": 2},
    ),
}


@pytest.fixture(params=NETWORKS)
def description(request):
    return NETWORKS[request.param]


@pytest.fixture
def network(description):
    torch.manual_seed(0)
    network = description.build()
    for module in network.modules():  # as after some training: no two norms alike
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.fixture
def images(network):
    return torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(1))


def test_the_super_net_is_the_timm_model_bit_for_bit(description, images):
    torch.manual_seed(3)
    network = description.build().eval()
    plain = copy.deepcopy(network.backbone)
    torch.testing.assert_close(network(images), plain(images), rtol=0, atol=0)


def test_at_conversion_every_profile_runs_with_the_norms_it_starts_from(description):
    network = description.build()
    for name, norm in network.skip_norms.named_parameters():
        torch.testing.assert_close(norm, network.backbone.get_parameter(name), rtol=0, atol=0)


def test_a_profile_equals_its_static_subnetwork(network, images):
    for profile in network.profiles:
        torch.testing.assert_close(
            network(images, profile), network.subnetwork(profile)(images), rtol=0, atol=0
        )


def test_no_two_profiles_give_the_same_output(network, images):
    outputs = {tuple(network(images, profile).flatten().tolist()) for profile in network.profiles}
    assert len(outputs) == len(network.profiles)


def test_profiles_run_together_equal_profiles_run_alone(network, images):
    together = network.forward_profiles(images, network.profiles)
    for profile in network.profiles:
        torch.testing.assert_close(together[profile], network(images, profile), rtol=0, atol=0)


def test_a_subnetwork_shares_its_weights(network):
    own = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in network.subnetwork("base").parameters()} < own


def test_a_subnetwork_is_an_ordinary_timm_model_without_the_skipped_blocks(network):
    assert type(network.subnetwork("base")) is type(network.backbone)
    skipped = sum(
        len(layout.blocks) - point for layout, point in zip(network.layouts, network.split, strict=True)
    )
    assert _num_blocks(network.subnetwork("full")) - _num_blocks(network.subnetwork("base")) == skipped


def _num_blocks(backbone):
    containers = ["blocks"] if hasattr(backbone, "blocks") else [f"layer{stage}" for stage in (1, 2, 3, 4)]
    return sum(len(getattr(backbone, name)) for name in containers)


def test_one_training_step_gives_every_parameter_a_finite_gradient(network, images):
    step = SelfDistillation(network.train(), alpha=0.5, temperature=1.0, label_smoothing=0.0)
    step(images, torch.tensor([0, 1])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_backbones_weights_are_a_valid_timm_checkpoint(network, description, images):
    weights = {name.removeprefix("backbone."): value for name, value in network.state_dict().items()}
    plain = description.build().backbone
    plain.load_state_dict(
        {name: value for name, value in weights.items() if not name.startswith("skip_norms.")}
    )
    torch.testing.assert_close(plain.eval()(images), network(images), rtol=0, atol=0)


def test_a_state_dict_restores_every_profile(network, images):
    again = NetworkDescription(**network.description.to_dict()).build().eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(images, "base"), network(images, "base"), rtol=0, atol=0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_is_whole_and_independent(network, images, duplicate):
    before = network(images, "base")
    other = duplicate(network)
    torch.testing.assert_close(other(images, "base"), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(other(images, "base"), other.subnetwork("base")(images), rtol=0, atol=0)
    torch.testing.assert_close(network(images, "base"), before, rtol=0, atol=0)


def test_training_mode_reaches_the_skipped_forms(network):
    network.train()
    assert all(
        module.training for stage in network.stages for block in stage.skipped for module in block.modules()
    )
    network.eval()
    assert not any(
        module.training for stage in network.stages for block in stage.skipped for module in block.modules()
    )


def test_every_norm_of_a_skippable_stages_mandatory_path_is_doubled_but_not_the_shortcuts(network):
    doubled = {
        name for name, module in network.skip_norms.named_modules() if list(module.parameters(recurse=False))
    }
    assert doubled
    assert not any("downsample" in name for name in doubled)


def test_cost_counts_what_the_subnetwork_holds(network):
    for profile in network.profiles:
        held = sum(parameter.numel() for parameter in network.subnetwork(profile).parameters())
        assert network.cost(profile).parameters == held


def test_macs_of_a_profile_are_those_counted_on_its_subnetwork(network, images):
    from torch.utils.flop_counter import FlopCounterMode

    for profile in network.profiles:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.subnetwork(profile)(images[:1])
        assert network.cost(profile).macs == counter.get_total_flops() // 2


def test_sixteen_profiles_take_thirty_stage_runs():
    network = AdaptiveDepthNetwork.from_timm("resnet18", image_size=32, channels=[8, 8, 8, 8]).eval()
    runs = []
    for (
        stage
    ) in network.stages:  # a rewired copy shares its hooks with the original, so this counts both forms
        stage.whole[0].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        network.forward_profiles(torch.rand(1, 3, 32, 32), network.profiles)
    assert len(network.profiles) == 16
    assert len(runs) == 30


@pytest.mark.parametrize(
    ("name", "published_gmacs"),
    [
        ("resnet50", {"FFFF": 4.11, "TFFF": 3.90, "TTFF": 3.46, "TTTT": 2.58}),
        ("vit_base_patch16_224", {"FFFF": 17.58, "TTFF": 14.67, "TTTT": 11.76}),
    ],
)
def test_macs_at_the_papers_split_are_the_published_ones(name, published_gmacs):
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm(name)
    for profile, gmacs in published_gmacs.items():
        assert network.cost(profile).macs / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_pretrained_weights_are_the_super_nets_and_the_skip_norms_start_as_copies(tmp_path):
    plain = timm.create_model("resnet18", num_classes=5)
    plain.layer1[0].bn1.running_mean.uniform_()
    weights = tmp_path / "weights.pth"
    torch.save(plain.state_dict(), weights)
    network = AdaptiveDepthNetwork.from_timm(
        "resnet18",
        num_classes=5,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(weights), "num_classes": 5},
    )
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.eval()(images), plain.eval()(images), rtol=0, atol=0)
    torch.testing.assert_close(
        network.skip_norms.get_buffer("layer1.0.bn1.running_mean"),
        plain.layer1[0].bn1.running_mean,
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("resnet5O", {}, r"timm model name, got 'resnet5O'; did you mean resnet50"),
        ("vgg11", {}, r"vgg11 cannot become an adaptive depth network: its class VGG"),
        ("resnet18", {"foo": 1}, r"timm cannot build resnet18 with \{'foo': 1\}"),
        ("resnet10t", {}, r"no stage has a block that can be left out \(layer1: has one block"),
        (
            "vit_tiny_patch16_224",
            {"small_images": True},
            r"small_images needs a ResNet .* got vit_tiny",
        ),
        (
            "vit_tiny_patch16_224",
            {"image_size": 30},
            r"multiple of the patch size, got 30 pixels .* choose 32",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(name, kwargs, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        AdaptiveDepthNetwork.from_timm(name, **kwargs)


def test_an_image_size_that_the_network_cannot_take_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="cannot take images of 100 x 100 pixels"):
        AdaptiveDepthNetwork.from_timm("maxvit_tiny_tf_224", image_size=100)


def test_networks_import_neither_ray_nor_mlflow_nor_optuna():
    code = "import sys, pipeline.networks; print({'ray', 'mlflow', 'optuna'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
