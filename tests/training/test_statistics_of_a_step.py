"""How often a step moves BatchNorm's running statistics, as the table in docs/method.md says."""

import pytest
import torch
from torch import nn

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.recipe import DistillationConfig
from pipeline.training.step import SelfDistillation

IMAGES, LABELS = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
RULE = DistillationConfig(reduction="mean", students="base", student_labels="none")


@pytest.fixture
def step():
    torch.manual_seed(0)
    network = AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, image_size=16, small_images=True, channels=[8, 16, 16, 16]
    )
    return SelfDistillation(network.train(), RULE, nn.CrossEntropyLoss(reduction="none"))


def _moves(step):
    """Return how often norms of the stem, a shortcut, both forms of a block and a skippable one moved."""
    network = step.network
    norms = {
        "stem": network.backbone.bn1,
        "shortcut": network.backbone.layer2[0].downsample[1],
        "whole": network.backbone.layer1[0].bn1,
        "skipped": network.get_submodule("skip_norms.layer1.0.bn1"),
        "skippable": network.backbone.layer1[1].bn1,
    }
    return {name: int(norm.num_batches_tracked) for name, norm in norms.items()}


def test_in_a_joint_pass_the_stem_moves_once_and_a_shortcut_twice(step):
    step(IMAGES, LABELS, [DepthProfile("TTTT")])
    assert _moves(step) == {"stem": 1, "shortcut": 2, "whole": 1, "skipped": 1, "skippable": 1}


def test_in_passes_in_turns_the_stem_moves_twice_as_in_the_papers_loop(step):
    step.backward_in_turns(IMAGES, LABELS, [DepthProfile("TTTT")], torch.Tensor.backward)
    assert _moves(step) == {"stem": 2, "shortcut": 2, "whole": 1, "skipped": 1, "skippable": 1}
