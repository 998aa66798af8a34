"""Block latencies: what is timed, and that a depth costs what its blocks do."""

import time

import pytest
import torch
from torch import nn

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.cost import BlockLatencies, measure_block_latencies

SLEEP_S = 0.03


@pytest.fixture(scope="module")
def network():
    return AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=2, image_size=16, small_images=True, layers=[3, 3, 1, 1], channels=[4] * 4
    ).eval()


class Slow(nn.Module):
    """A block that takes its time."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, images):
        time.sleep(SLEEP_S)
        return self.block(images)


def test_every_block_of_every_stage_is_timed_and_nothing_stays_behind(network):
    found = measure_block_latencies(network, torch.rand(1, 3, 16, 16), num_warmup=1, num_runs=3)
    assert set(found.blocks_ms) == {block for layout in network.layouts for block in layout.blocks}
    assert 0 < sum(found.blocks_ms.values()) < found.whole_ms
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_time_belongs_to_the_block_that_takes_it(network):
    stage = network.backbone.layer2
    fast = stage[2]
    stage[2] = Slow(fast)
    try:
        found = measure_block_latencies(network, torch.rand(1, 3, 16, 16), num_warmup=0, num_runs=3)
    finally:
        stage[2] = fast
    slowest = max(found.blocks_ms, key=found.blocks_ms.get)
    assert slowest == "layer2.2"
    assert found.whole_ms > found.blocks_ms[slowest] >= SLEEP_S * 1000


@pytest.mark.parametrize(
    ("profile", "left_out"),
    [("FF", ()), ("TF", ("layer1.2",)), ("FT", ("layer2.2",)), ("TT", ("layer1.2", "layer2.2"))],
)
def test_a_depth_takes_the_time_of_the_blocks_that_it_has(network, profile, left_out):
    assert network.left_out(profile) == left_out
    latencies = BlockLatencies(10.0, {"layer1.2": 1.0, "layer2.2": 2.5})
    assert latencies.of(left_out) == 10.0 - 1.0 * ("layer1.2" in left_out) - 2.5 * ("layer2.2" in left_out)
