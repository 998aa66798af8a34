"""The network's own behaviour; laws of all families are in `test_family_laws`, copies in `test_wiring`."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile, NetworkDescription

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


def test_at_conversion_every_profile_runs_with_the_norms_it_starts_from(description):
    network = description.build()
    for name, norm in network.skip_norms.named_parameters():
        torch.testing.assert_close(norm, network.backbone.get_parameter(name), rtol=0, atol=0)


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


def test_sixteen_profiles_take_thirty_stage_runs():
    network = AdaptiveDepthNetwork.from_timm("resnet18", image_size=32, channels=[8, 8, 8, 8]).eval()
    runs = []
    for stage in (1, 2, 3, 4):  # a rewired copy shares its hooks with the original: both forms count
        network.form(stage, network.paths(stage)[0])[0].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        network.forward_profiles(torch.rand(1, 3, 32, 32), network.profiles)
    assert len(network.profiles) == 16
    assert len(runs) == 30


@pytest.mark.parametrize(
    ("name", "published_gmacs"),
    [
        ("resnet50", {"FFFF": 4.11, "TFFF": 3.90, "TTFF": 3.46, "TTTT": 2.58}),
        ("vit_base_patch16_224", {"FFFF": 17.58, "TTFF": 14.67, "TTTT": 11.76}),
        ("swin_tiny_patch4_window7_224", {"FFFF": 4.49, "TFFF": 4.11, "TTFF": 3.75, "TTTT": 2.34}),
        # Published as 0.32 and 0.22, which count norms and activations as well.
        ("mobilenetv2_100", {"FFFFF": 0.301, "TTTTT": 0.205}),
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
        ("vgg11", {}, r"vgg11 cannot become an adaptive depth network: its layers form a chain .*VGG"),
        ("resnet18", {"foo": 1}, r"timm cannot build resnet18 with \{'foo': 1\}"),
        ("resnet18", {"layers": [2, 2]}, r"runs a stage that is not there \(.*layer3"),
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


def test_the_size_of_timms_weights_is_allowed_even_where_the_patches_do_not_divide_it():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("vit_so400m_patch14_siglip_384", num_stages=1)
    assert network.input_shape == (3, 384, 384)


def test_networks_import_neither_ray_nor_mlflow_nor_optuna():
    code = "import sys, pipeline.networks; print({'ray', 'mlflow', 'optuna'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


def letters_of_norms(network):
    """Return for every norm of the backbone the letters whose T exchanges it."""
    full = dict(network.subnetwork("full").named_modules())
    letters = {}
    for letter in range(network.num_skippable_stages):
        profile = DepthProfile(
            "".join("FT"[number == letter] for number in range(network.num_skippable_stages))
        )
        for path, module in network.subnetwork(profile).named_modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) and module is not full[path]:
                letters.setdefault(path, []).append(letter)
    return letters


def test_in_mobilenet_v2_what_lies_around_the_stages_follows_the_first_or_the_last_letter():
    with torch.device("meta"):
        letters = letters_of_norms(AdaptiveDepthNetwork.from_timm("mobilenetv2_100"))
    assert letters["bn1"] == letters["blocks.0.0.bn1"] == [0]
    assert letters["blocks.1.0.bn1"] == [0]
    assert letters["blocks.5.1.bn3"] == [4]
    assert letters["blocks.6.0.bn1"] == letters["bn2"] == [4]


def test_in_a_resnet_the_stems_norm_and_those_of_shortcuts_are_shared():
    with torch.device("meta"):
        letters = letters_of_norms(AdaptiveDepthNetwork.from_timm("resnet50"))
    assert letters["layer2.0.bn1"] == [1]
    assert {"bn1", "layer2.0.downsample.1"}.isdisjoint(letters)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("swin_tiny_patch4_window7_224", "layers.1.downsample.norm"),
        ("convnext_atto", "stages.1.downsample.0"),
    ],
)
def test_the_downsampling_norm_at_the_head_of_a_stage_follows_its_letter(name, norm):
    with torch.device("meta"):
        letters = letters_of_norms(AdaptiveDepthNetwork.from_timm(name))
    assert letters[norm] == [1]


def test_norms_of_queries_and_keys_exist_twice():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("vit_medium_patch16_reg4_gap_256", qk_norm=True)
    doubled = dict(network.skip_norms.named_modules())
    assert {"blocks.0.attn.q_norm", "blocks.0.attn.k_norm", "blocks.0.norm1"} <= doubled.keys()


def test_the_share_of_channels_in_convnext_v2_is_not_doubled():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("convnextv2_atto")
    doubled = {type(module).__name__ for module in network.skip_norms.modules()}
    assert "GlobalResponseNorm" not in doubled
    assert {"LayerNorm", "LayerNorm2d"} & doubled


def test_norms_can_be_left_shared():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("mobilenetv2_100", skip_aware_norms=False)
    assert list(network.skip_norms.parameters()) == []
    assert letters_of_norms(network) == {}
    assert network.num_skippable_stages == 5


def test_a_network_without_norms_works_without():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("dm_nfnet_f0")
    assert list(network.skip_norms.parameters()) == []
    assert network.num_skippable_stages == 3


def test_the_number_of_virtual_stages_can_be_chosen():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("vit_tiny_patch16_224", num_stages=3)
    assert [layout.name for layout in network.layouts] == ["blocks[0:4]", "blocks[4:8]", "blocks[8:12]"]


def test_stages_of_their_own_cannot_be_numbered():
    with torch.device("meta"), pytest.raises(ValueError, match="got 3 for resnet18, which has 4 stages"):
        AdaptiveDepthNetwork.from_timm("resnet18", num_stages=3)


def test_a_stage_whose_tail_must_stay_says_why():
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm("tiny_vit_5m_224")
    assert [layout.obstacle for layout in network.layouts] == [
        None,
        *(f"block {blocks} of {blocks} has no identity path around it" for blocks in (2, 6, 2)),
    ]
