"""A training stops at the first loss or gradient that is not finite, and says where it comes from."""

import math
import pickle
import re

import pytest
import torch
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.training.divergence import DivergenceError
from pipeline.training.health import MAX_SPIKES, HealthWatch
from pipeline.training.reading import Position

CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, image_size=16, small_images=True, channels=[4, 4, 4, 4]
    )


class Training:
    """Steps of plain SGD under a watch."""

    def __init__(self, network, *, lr=0.1, **settings):
        self.network = network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=lr)
        settings = {"rank": 0, "world_size": 1, "board": None, "precision": "float32"} | settings
        self.watch = HealthWatch(network, self.optimizer, device=CPU, **settings)
        self.steps = 0

    def step(self, images=None, factor=1.0):
        """Take a step whose loss is multiplied by a factor."""
        self.steps += 1
        images = torch.rand(4, 3, 16, 16) if images is None else images
        self.watch.start_step(Position(1, self.steps, 9), [images])
        full, base = self.network.extremes
        logits = self.network.forward_profiles(images, (full, base))
        labels = torch.tensor([0, 1, 2, 0])
        loss = sum(functional.cross_entropy(one, labels) for one in logits.values()) * factor
        self.optimizer.zero_grad()
        loss.backward()
        self.watch.check(loss)
        self.optimizer.step()


def _set(network, path, value):
    with torch.no_grad():
        network.get_parameter(path).fill_(value)


def test_an_undefined_loss_stops_before_the_weights_change(network):
    training = Training(network)
    training.step()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    with pytest.raises(DivergenceError, match=r"loss must stay finite, got nan in epoch 1, step 2 of 9"):
        training.step(factor=math.nan)
    torch.testing.assert_close(dict(network.named_parameters()), before, rtol=0, atol=0)


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_the_learning_rate_and_a_loss_that_is_bad_by_itself_are_told(network, factor):
    with pytest.raises(DivergenceError, match=r"rate 0.25; every module's output is finite for this batch"):
        Training(network, lr=0.25).step(factor=factor)


def test_every_part_of_a_batch_is_looked_at(network):
    watch = Training(network).watch
    watch.start_step(Position(1, 1, 9), [torch.full((4, 3, 16, 16), math.nan), torch.rand(4, 3, 16, 16)])
    with pytest.raises(DivergenceError, match=r"first not finite: the images themselves$"):
        watch.check(torch.tensor(math.nan))


@pytest.mark.parametrize("path", ["layer1.0.conv1", "layer3.1.conv2", "fc"])
def test_the_first_module_with_an_output_that_is_not_finite_is_named(network, path):
    _set(network.backbone, f"{path}.weight", 3e38)
    with pytest.raises(DivergenceError, match=rf"first not finite: the output of {path}, profile FFFF$"):
        Training(network).step()


def test_a_module_of_the_skipped_form_is_named_with_its_profile(network):
    _set(network.skip_norms, "layer2.0.bn1.weight", 3e38)
    message = r"first not finite: the output of skip_norms.layer2.0.bn1, profile TTTT$"
    with pytest.raises(DivergenceError, match=message):
        Training(network).step()


def test_images_that_are_not_finite_are_named(network):
    images = torch.rand(4, 3, 16, 16)
    images[2, 0, 5, 5] = math.inf
    with pytest.raises(DivergenceError, match=r"first not finite: the images themselves$"):
        Training(network).step(images)


def test_weights_that_are_not_finite_are_named(network):
    _set(network, "backbone.layer2.0.conv1.weight", math.inf)
    message = r"first not finite: the weights backbone.layer2.0.conv1.weight, before this step$"
    with pytest.raises(DivergenceError, match=message):
        Training(network).step()


def test_a_gradient_that_overflows_under_a_finite_loss_stops_too(network):
    training = Training(network)
    network.backbone.fc.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(
        DivergenceError, match=r"training gradient must stay finite, got (inf|nan) in epoch 1"
    ):
        training.step()


def test_a_gradient_that_a_scaler_undoes_stops_nothing(network):
    training = Training(network, undoes_overflow=True)
    hook = network.backbone.fc.bias.register_hook(lambda gradient: gradient * math.inf)
    training.step()
    hook.remove()
    training.watch.settle()


@pytest.mark.parametrize("lag_steps", [1, 2])
def test_numbers_read_later_still_name_the_step_and_the_module(network, lag_steps):
    training = Training(network, lag_steps=lag_steps)
    training.step()
    training.step(torch.full((4, 3, 16, 16), math.nan))
    for _ in range(lag_steps - 1):
        training.step()
    with pytest.raises(DivergenceError, match=r"step 2 of 9.* first not finite: the images themselves"):
        training.step()


def test_an_epoch_does_not_end_before_all_its_steps_are_read(network):
    training = Training(network, lag_steps=2)
    training.step(factor=math.nan)
    with pytest.raises(DivergenceError, match=r"got nan in epoch 1, step 1 of 9"):
        training.watch.settle()


def test_with_a_lag_the_weights_before_the_bad_step_are_brought_back(network):
    training = Training(network, lag_steps=2)
    training.step()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    training.step(factor=math.nan)
    training.step()
    with pytest.raises(DivergenceError, match=r"step 2 of 9"):
        training.step()
    torch.testing.assert_close(dict(network.named_parameters()), before, rtol=0, atol=0)


def test_a_divergence_keeps_its_text_when_it_is_pickled(network):
    with pytest.raises(DivergenceError, match=re.escape("got nan")) as caught:
        Training(network).step(factor=math.nan)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_watch_without_a_step_is_refused(network):
    watch = Training(network).watch
    with pytest.raises(RuntimeError, match=r"call start_step\(\) first"):
        watch.check(torch.zeros(()))


class Board:
    """Remembers notes as the actor would."""

    def __init__(self):
        self.notes = []
        self.note = self

    def remote(self, note):
        self.notes.append(note)


@pytest.mark.parametrize(("rank", "num_told"), [(0, 1), (1, 0)])
def test_rank_0_alone_tells_about_a_spike(network, rank, num_told):
    board = Board()
    training = Training(network, lr=0.0, board=board, rank=rank)
    images = torch.rand(4, 3, 16, 16)
    for factor in [1.0] * 25 + [50.0]:
        training.step(images, factor=factor)
    assert len(board.notes) == num_told
    assert all(re.match(r"loss spike in epoch 1, step 26 of 9: \d", note) for note in board.notes)


def test_spikes_without_end_are_told_a_few_times(network):
    board = Board()
    training = Training(network, lr=0.0, board=board)
    images = torch.rand(4, 3, 16, 16)
    for step in range(25 + 4 * MAX_SPIKES):
        training.step(images, factor=50.0 if step > 25 and step % 3 == 0 else 1.0)
    assert len(board.notes) == MAX_SPIKES
    assert board.notes[-1].endswith("further spikes are not told")
