"""A network that is trained alone, by the parts of a training, against the textbook's loop."""

import copy
import itertools
from dataclasses import replace

import pytest
import timm
import torch
from torch.nn import functional

from pipeline.evaluation.accuracy import Accuracy
from pipeline.training.checkpoint import TrainingState, load_checkpoint, load_weights, save_checkpoint
from pipeline.training.divergence import DivergenceError
from pipeline.training.epochs import EpochReport, Reached
from pipeline.training.health import HealthWatch
from pipeline.training.manifest import CheckpointError
from pipeline.training.optimisation import build_optimizer
from pipeline.training.plan import plan_training
from pipeline.training.reading import Position
from pipeline.training.session import (
    build_learner,
    build_network,
    build_step,
    build_students,
    build_train_loader,
    validated_profiles,
)
from pipeline.training.update import Updater
from pipeline.training.worker import metrics_alone

CPU = torch.device("cpu")
RESNET = {
    "name": "resnet18",
    "small_images": True,
    "kwargs": {"layers": [2, 2, 1, 1], "channels": [8, 8, 8, 8]},
}
NUM_UPDATES = 5


@pytest.fixture
def make_plan(digits, tiny_job):
    """Makes the plan of a depth that is trained alone, by SGD."""

    def make(depth, *, backbone=None, **training):
        job = tiny_job(**{"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.01, **training})
        plan = plan_training(job if backbone is None else job.override({"backbone": backbone}), digits)
        return replace(plan, alone=depth)

    return make


class Training:
    """A learner of a plan with what trains it."""

    def __init__(self, plan):
        self.plan = plan
        torch.manual_seed(plan.seed)
        self.network = build_learner(plan)
        step = build_step(plan, self.network, device=CPU)
        self.optimizer = build_optimizer(self.network, plan.recipe)
        self.updater = Updater(step, step, self.optimizer, plan.recipe, device=CPU, world_size=1)
        self.students = build_students(plan, self.network)
        self.state = TrainingState(self.network, self.optimizer)
        self.network.train()

    def learn(self, batches):
        losses = []
        for update, batch in enumerate(batches):
            losses.append(self.updater.backward([batch], self.students.draw(update)).item())
            self.updater.apply(update)
        return losses


def batches(plan):
    return list(itertools.islice(build_train_loader(plan, rank=0, world_size=1), NUM_UPDATES))


def textbook(model, plan, *, no_decay=()):
    """Train a model by torch alone; returns its losses."""
    parameters = dict(model.named_parameters())
    decayed = [p for name, p in parameters.items() if p.ndim > 1 and name not in no_decay]
    rest = [p for name, p in parameters.items() if p.ndim <= 1 or name in no_decay]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    model.train()
    losses = []
    for images, labels in batches(plan):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_whole_network_alone_is_the_plain_timm_model_trained_by_the_textbook(make_plan):
    plan = make_plan("full")
    training = Training(plan)
    losses = training.learn(batches(plan))
    torch.manual_seed(plan.seed)
    name, kwargs = plan.network.backbone, dict(plan.network.kwargs)
    model = timm.create_model(name, num_classes=10, img_size=8, **kwargs)
    assert losses == pytest.approx(textbook(model, plan, no_decay=model.no_weight_decay()), rel=1e-5)
    torch.testing.assert_close(training.network.backbone.state_dict(), model.state_dict())


@pytest.mark.parametrize("backbone", [None, RESNET])
def test_the_base_net_alone_is_the_static_sub_network_trained_by_the_textbook(make_plan, backbone):
    plan = make_plan("base", backbone=backbone)
    training = Training(plan)
    losses = training.learn(batches(plan))
    torch.manual_seed(plan.seed)
    model = copy.deepcopy(build_network(plan).subnetwork("base"))
    no_decay = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    assert losses == pytest.approx(textbook(model, plan, no_decay=no_decay), rel=1e-4)
    torch.testing.assert_close(
        training.network.backbone.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("depth", ["full", "base"])
def test_the_optimiser_has_the_parameters_of_the_depth_and_no_others(make_plan, depth):
    plan = make_plan(depth, backbone=RESNET)
    training = Training(plan)
    own = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert own == {id(p) for p in training.network.parameters()}
    before = copy.deepcopy(training.network.state_dict())
    training.learn(batches(plan))
    still = [name for name, value in training.network.named_parameters() if value.equal(before[name])]
    assert still == []
    expected = build_network(plan).subnetwork(depth)
    assert {n: p.shape for n, p in training.network.backbone.named_parameters()} == {
        n: p.shape for n, p in expected.named_parameters()
    }


@pytest.mark.parametrize("settings", [{"passes": "sequential"}, {"recompute_activations": True}])
def test_the_way_of_computing_changes_nothing(make_plan, settings):
    plain, other = make_plan("base"), make_plan("base", **settings)
    expected = Training(plain).learn(batches(plain))
    assert Training(other).learn(batches(other)) == pytest.approx(expected, rel=1e-6)


def test_a_layers_learning_rate_falls_towards_the_stem(make_plan):
    training = Training(make_plan("base", layer_decay=0.5))
    scales = {id(p): group["lr_scale"] for group in training.optimizer.param_groups for p in group["params"]}
    backbone = training.network.backbone
    first, last = (scales[id(block.norm1.weight)] for block in (backbone.blocks[0], backbone.blocks[-1]))
    assert first < last < scales[id(backbone.head.weight)] == 1


HISTORY = (EpochReport(1, {"train/loss": 1.5, "alone/top1": 0.25, "score": 0.25}, 1_700_000_000_000),)


def test_a_training_that_goes_on_ends_with_the_weights_of_an_uninterrupted_one(make_plan, tmp_path):
    plan = make_plan("base", backbone=RESNET)
    whole, first, rest = Training(plan), Training(plan), Training(replace(plan, seed=9))
    whole.learn(batches(plan))
    first.learn(batches(plan)[:2])
    save_checkpoint(tmp_path, first.state, Reached(HISTORY, 2, 1.5))
    assert load_checkpoint(tmp_path, rest.state) == Reached(HISTORY, 2, 1.5)
    rest.learn(batches(plan)[2:])
    torch.testing.assert_close(rest.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_another_depth_is_refused(make_plan, tmp_path):
    save_checkpoint(tmp_path, Training(make_plan("base")).state, Reached(HISTORY))
    with pytest.raises(CheckpointError, match=r"another network: alone 'TT' instead of 'FF'"):
        load_weights(tmp_path, Training(make_plan("full")).network)


def test_the_adaptive_networks_checkpoint_is_no_network_alones(make_plan, tmp_path):
    plan = make_plan("base")
    save_checkpoint(tmp_path, Training(replace(plan, alone=None)).state, Reached(HISTORY))
    with pytest.raises(CheckpointError, match=r"another network: .* alone None instead of 'TT'"):
        load_weights(tmp_path, Training(plan).network)


def test_an_undefined_loss_is_traced_to_its_module(make_plan):
    training = Training(make_plan("base"))
    watch = HealthWatch(
        training.network,
        training.optimizer,
        device=CPU,
        rank=0,
        world_size=1,
        board=None,
        precision="float32",
    )
    with torch.no_grad():
        training.network.backbone.blocks[1].norm1.weight.fill_(torch.inf)
    ((images, labels),) = batches(training.plan)[:1]
    watch.start_step(Position(1, 1, 9), [images])
    loss = training.updater.backward([(images, labels)], ())
    with pytest.raises(DivergenceError, match=r"got nan .*the weights backbone.blocks.1.norm1.weight"):
        watch.check(loss)


def test_its_one_depth_is_validated_under_a_name_of_its_own(make_plan):
    plan = replace(make_plan("base"), validates_all_profiles=True)
    network = Training(plan).network
    assert validated_profiles(plan, network) == (network.profile,)
    assert metrics_alone(Accuracy(top1=0.5, top5=None, loss=1.25)) == {
        "alone/top1": 0.5,
        "alone/loss": 1.25,
        "score": 0.5,
    }
