"""Which blocks the probe lets go, on blocks made for each case."""

import pytest
import torch
from torch import nn

from pipeline.networks.probe import probe_blocks


class Block(nn.Module):
    def __init__(self, function, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(4, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def in_place(block, x):
    out = torch.cat([block.conv(x), block.conv(x)], 1)[:, :4]
    out += x
    return out


def half_in_place(block, x):
    out = block.conv(x)
    out[:, :2] += x[:, :2]
    return out


def permuted(block, x):
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + block.conv(x).flatten(2).transpose(1, 2)
    return tokens.transpose(1, 2).reshape(x.shape)


RESIDUAL = {
    "sum": lambda block, x: x + block.conv(x),
    "sum with activation behind it": lambda block, x: torch.relu(x + block.conv(x)),
    "activated input": lambda block, x: torch.relu_(x) + block.conv(x),
    "two sums": lambda block, x: (y := x + block.conv(x)) + block.norm(y),
    "learned scale": lambda block, x: x * block.scale + block.conv(x),
    "difference": lambda block, x: x - block.conv(x),
    "tokens": permuted,
    "sum in place on a view": in_place,
    "identity": lambda _, x: x,
}

NOT_RESIDUAL = {
    "chain": lambda block, x: block.conv(x),
    "norm behind the sum": lambda block, x: block.norm(x + block.conv(x)),
    "norm beside": lambda block, x: block.norm(x) + block.conv(x),
    "gate": lambda block, x: x * torch.sigmoid(block.conv(x)),
    "square": lambda block, x: x * x + block.conv(x),
    "subtrahend": lambda block, x: block.conv(x) - x,
    "concatenation": lambda block, x: torch.cat([x[:, :2], block.conv(x)[:, 2:]], 1),
    "half of the channels in place": half_in_place,
}


def facts_of(function, channels=4):
    return probe_blocks(nn.Sequential(Block(function, channels)), ["0"], (4, 8, 8))["0"]


@pytest.mark.parametrize("case", RESIDUAL)
def test_a_block_with_an_identity_path_can_be_left_out(case):
    assert facts_of(RESIDUAL[case]).obstacle is None


@pytest.mark.parametrize("case", NOT_RESIDUAL)
def test_a_block_without_an_identity_path_must_stay(case):
    assert facts_of(NOT_RESIDUAL[case]).obstacle == "has no identity path around it"


def test_a_block_that_changes_the_shape_must_stay():
    facts = facts_of(lambda block, x: block.conv(x), channels=6)
    assert facts.obstacle == "changes the shape from 4x8x8 to 6x8x8"


def test_the_probe_leaves_the_backbone_as_it_is():
    backbone = nn.Sequential(Block(RESIDUAL["sum"]))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    probe_blocks(backbone, ["0"], (4, 8, 8))
    assert backbone.training
    assert not backbone[0]._forward_hooks
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_images_that_do_not_fit_are_refused_with_the_backbones_own_words():
    with pytest.raises(ValueError, match=r"cannot take images of 2 x 2 pixels \(.*Kernel size"):
        probe_blocks(nn.Sequential(nn.Conv2d(4, 4, 3)), ["0"], (4, 2, 2))
