"""Training and scoring all splits at once, without Ray: each step has a split, each split gets its score."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from pipeline.evaluation.calibration import calibrate
from pipeline.evaluation.evaluate import reach
from pipeline.evaluation.one_shot import reach_splits
from pipeline.networks import NetworkDescription
from pipeline.networks.one_shot import OneShotNetwork
from pipeline.recipe import DistillationConfig, TrainingConfig
from pipeline.training.optimisation import build_criterion, build_optimizer
from pipeline.training.plan import plan_training
from pipeline.training.session import build_network, build_students
from pipeline.training.step import SelfDistillation
from pipeline.training.students import SplitSchedule
from pipeline.training.update import Updater

CPU = torch.device("cpu")
DESCRIPTION = NetworkDescription(
    "resnet18", 3, image_size=16, small_images=True, kwargs={"layers": [3, 3, 1, 1], "channels": [4] * 4}
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return OneShotNetwork(DESCRIPTION)


def batches(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 3


class Watched(OneShotNetwork):
    """Remembers which splits were chosen."""

    def __init__(self, description):
        self.chosen = []
        super().__init__(description)

    def choose(self, split):
        self.chosen.append(tuple(split))
        super().choose(split)


def drawn(updates, *, seed=3):
    network = Watched(DESCRIPTION)
    schedule = SplitSchedule(network, DistillationConfig(), seed=seed)
    students = [schedule.draw(update) for update in updates]
    return network.chosen, students


def test_every_split_is_drawn_about_equally_often():
    chosen, _ = drawn(range(400))
    counts = Counter(chosen)
    assert len(counts) == 4
    assert 70 < min(counts.values()) <= max(counts.values()) < 130


def test_a_run_that_goes_on_draws_what_it_would_have_drawn_and_another_seed_does_not():
    whole = drawn(range(20))
    assert drawn(range(10, 20)) == (whole[0][10:], whole[1][10:])
    assert drawn(range(20), seed=4)[0] != whole[0]


@pytest.mark.parametrize("passes", ["joint", "sequential"])
def test_training_changes_what_every_split_predicts(network, passes):
    recipe = TrainingConfig(epochs=1, optimizer="sgd", lr=0.05, passes=passes)
    step = SelfDistillation(network, DistillationConfig(), build_criterion(recipe, is_smoothed=False))
    updater = Updater(step, step, build_optimizer(network, recipe), recipe, device=CPU, world_size=1)
    schedule = SplitSchedule(network, DistillationConfig(), seed=0)
    images, _ = batches(99)

    def predictions():
        with torch.no_grad():
            return [network.eval().view(split)(images, "base") for split in network.splits()]

    before = predictions()
    network.train()
    losses = []
    for update in range(30):
        losses.append(float(updater.backward([batches(update % 2)], schedule.draw(update))))
        updater.apply(update)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert all(not torch.equal(old, new) for old, new in zip(before, predictions(), strict=True))


def test_every_split_is_counted_as_by_itself(network):
    images, held_out = [batches(n)[0] for n in range(2)], [batches(n) for n in range(2, 4)]
    found = reach_splits(network, images, held_out, device=CPU)
    assert list(found) == network.splits()
    alone = replace(DESCRIPTION, split=(1, 2, 1, 1)).build()
    weights = network.state_dict()
    alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
    expected = reach(calibrate(alone, images, device=CPU), held_out, device=CPU)
    assert found[1, 2, 1, 1].accuracies == expected.accuracies


def test_a_plan_that_draws_splits_builds_a_network_of_all_of_them(digits, tiny_job):
    plan = plan_training(tiny_job(), digits)
    plain, drawing = build_network(plan), build_network(replace(plan, draws_splits=True))
    assert not isinstance(plain, OneShotNetwork)
    assert isinstance(drawing, OneShotNetwork)
    assert not isinstance(build_students(plan, plain), SplitSchedule)
    assert isinstance(build_students(plan, drawing), SplitSchedule)
