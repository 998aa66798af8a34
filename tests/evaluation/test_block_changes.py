import pytest
import torch
from torch import nn

from pipeline.evaluation.analysis import compare_blocks
from pipeline.evaluation.block_changes import measure_block_changes
from pipeline.networks import AdaptiveDepthNetwork


class Doubling(nn.Module):
    """Adds to what it is given as much again, and overwrites that."""

    def forward(self, hidden):
        return hidden.mul_(2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AdaptiveDepthNetwork.from_timm(
        "resnet18",
        num_classes=4,
        image_size=16,
        small_images=True,
        channels=[8] * 4,
        layers=[3, 2, 1, 1],
        zero_init_last=False,
    ).eval()


def test_a_block_that_doubles_changes_by_one(network):
    network.backbone.layer1[2] = Doubling()
    changes = measure_block_changes(network, torch.rand(3, 3, 16, 16))
    assert changes["layer1.2"] == pytest.approx(1.0)


def test_change_is_the_norm_of_what_a_block_adds(network):
    images = torch.rand(2, 3, 16, 16)
    backbone = network.backbone
    with torch.no_grad():
        hidden = backbone.layer1[0](backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(images)))))
        added = backbone.layer1[1](hidden) - hidden
    ratio = (added.flatten(1).norm(dim=1) / hidden.flatten(1).norm(dim=1)).mean()
    assert measure_block_changes(network, images)["layer1.1"] == pytest.approx(ratio.item(), rel=1e-5)


def test_blocks_that_change_the_shape_have_no_ratio_and_no_hook_stays(network):
    changes = measure_block_changes(network, torch.rand(2, 3, 16, 16))
    assert [block for block, change in changes.items() if change is None] == [
        "layer1.0",
        "layer2.0",
        "layer3.0",
        "layer4.0",
    ]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_states_of_several_parts_are_measured_by_their_hidden_part():
    network = AdaptiveDepthNetwork.from_timm(
        "eva02_tiny_patch14_224", num_classes=4, image_size=28, embed_dim=24, depth=4, num_heads=2
    ).eval()
    changes = measure_block_changes(network, torch.rand(2, 3, 28, 28))
    assert all(change is not None and change > 0 for change in changes.values())


def test_skippable_blocks_are_those_that_base_leaves_out(network):
    same = dict.fromkeys((block for layout in network.layouts for block in layout.blocks), 0.5)
    skippable = [one.block for one in compare_blocks(network, before=same, after=same) if one.is_skippable]
    assert skippable == list(network.left_out("base")) == ["layer1.2", "layer2.1"]
