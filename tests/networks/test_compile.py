"""A compiled network runs few graphs, whoever learns: they are counted, so nothing passes uncompiled."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.one_shot import OneShotNetwork
from pipeline.recipe import DistillationConfig
from pipeline.training.step import SelfDistillation
from pipeline.training.students import SplitSchedule, StudentSchedule

# torch's compiler looks at gradients that are not there yet.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

IMAGES, LABELS = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
PAPER = DistillationConfig(reduction="mean", students="base", student_labels="none")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def resnet():
    return AdaptiveDepthNetwork.from_timm("resnet18", num_classes=5, image_size=32, channels=[4, 4, 8, 8])


def num_graphs():
    return counters["stats"]["unique_graphs"]


def graphs_after_each_epoch(network, schedule, rule, *, epochs, updates=60):
    """Return how many graphs there are after each epoch; the code that would run them is not generated."""
    network.train().compile(backend="eager")
    step = SelfDistillation(network, rule, nn.CrossEntropyLoss(reduction="none"))
    counts = []
    for epoch in range(epochs):
        for update in range(epoch * updates, (epoch + 1) * updates):
            step(IMAGES, LABELS, schedule.draw(update)).backward()
        counts.append(num_graphs())
    return counts


def test_the_papers_rule_needs_a_graph_for_each_structure_of_a_segment(resnet):
    network = copy.deepcopy(resnet)
    schedule = StudentSchedule(network.profiles, PAPER, seed=0)
    # The stem, four stages whole and skipped, the head; two structures need no third where only norms differ.
    assert graphs_after_each_epoch(network, schedule, PAPER, epochs=1, updates=2) == [10]


def test_all_sets_of_students_share_the_graphs_and_none_is_compiled_again(resnet):
    network, rule = resnet.with_path_statistics(), DistillationConfig()
    schedule = StudentSchedule(network.profiles, rule, seed=0)
    assert len({schedule.draw(update) for update in range(120)}) > 8  # what torch compiles of one function
    first, second, third = graphs_after_each_epoch(network, schedule, rule, epochs=3)
    assert 0 < first <= 30
    assert third == second <= 30
    assert not counters["graph_break"]


def test_a_network_of_every_split_compiles_each_structure_once():
    network = OneShotNetwork(
        AdaptiveDepthNetwork.from_timm(
            "resnet18", num_classes=5, image_size=32, layers=[3, 2, 2, 2], channels=[4, 4, 4, 4]
        ).description
    )
    rule = DistillationConfig()
    schedule = SplitSchedule(network, rule, seed=0)
    first, second = graphs_after_each_epoch(network, schedule, rule, epochs=2, updates=20)
    # Stem and head; whole stages; skipped ones, of which the first has two.
    assert first == second == 2 + 4 + 5


def test_a_network_that_somebody_compiles_as_a_whole_is_wired_already(resnet):
    compiled = torch.compile(copy.deepcopy(resnet).eval(), backend="eager")
    with torch.no_grad():
        compiled(IMAGES)
    assert num_graphs() == 1
    assert not counters["graph_break"]


def test_evaluation_and_copies_run_as_they_are(resnet):
    network = copy.deepcopy(resnet).train()
    network.compile(backend="eager")
    with torch.no_grad():
        network(IMAGES)
    network.eval()(IMAGES)
    copy.deepcopy(network).train()(IMAGES)
    assert num_graphs() == 0
    network.train()(IMAGES)
    assert num_graphs() > 0
