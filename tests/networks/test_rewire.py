import pytest
import torch
from torch import nn

from pipeline.networks.rewire import insert, rewire


@pytest.fixture
def block():
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))


def test_everything_but_the_replaced_module_is_the_original(block):
    norm = nn.LayerNorm(2)
    form = rewire(block, {"1.1": norm})
    assert form[0] is block[0]
    assert form[1][0] is block[1][0]
    assert form[1][1] is norm


def test_the_original_keeps_its_modules(block):
    before = list(block.modules())
    rewire(block, {"1.1": nn.LayerNorm(2)})
    assert list(block.modules()) == before


def test_a_moved_weight_moves_in_both_forms(block):
    form = rewire(block, {"1.1": nn.LayerNorm(2)})
    block.to(torch.float64)
    assert form[1][0].weight.dtype == torch.float64


def test_parameters_held_by_a_module_on_the_path_are_shared():
    block = nn.TransformerEncoderLayer(4, 1)
    form = rewire(block, {"self_attn.out_proj": nn.Linear(4, 4)})
    assert form.self_attn.in_proj_weight is block.self_attn.in_proj_weight


def test_nothing_replaced_is_no_copy(block):
    assert rewire(block, {}) is block


def test_a_path_that_does_not_exist_is_refused(block):
    with pytest.raises(KeyError, match="7"):
        rewire(block, {"7": nn.LayerNorm(2)})


def test_insert_makes_the_steps_of_a_dotted_path():
    root = nn.Module()
    insert(root, "layer1.0.bn1", nn.BatchNorm2d(1))
    insert(root, "layer1.1.bn1", nn.BatchNorm2d(1))
    assert [name for name, _ in root.named_parameters()] == [
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "layer1.1.bn1.weight",
        "layer1.1.bn1.bias",
    ]
