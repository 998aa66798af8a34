"""The step's loss and gradient, against the same put together from plain passes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.networks import DepthProfile
from pipeline.recipe import DistillationConfig, TeacherConfig
from pipeline.training.distillation import distillation_loss, feature_loss, unlearnt_share
from pipeline.training.plan import plan_training
from pipeline.training.session import build_network, build_step
from pipeline.training.step import SelfDistillation
from pipeline.training.teacher import Teacher
from tests.training.training_under_test import tiny_job

IMAGES, LABELS = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
BASE, BETWEEN = DepthProfile("TTTT"), DepthProfile("FTFT")


@pytest.fixture
def network(tiny_vit):
    return tiny_vit()


def _step(network, criterion=None, **rule):
    rule = {"reduction": "mean", "student_labels": "none"} | rule
    return SelfDistillation(
        network, DistillationConfig(**rule), criterion or nn.CrossEntropyLoss(reduction="none")
    )


def test_the_joint_loss_weighs_labels_and_distillation(network):
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    loss = _step(network, criterion, alpha=0.3, temperature=2.0)(IMAGES, LABELS, [BASE])
    full, base = network(IMAGES, "full"), network(IMAGES, "base")
    by_parts = (
        0.3 * criterion(full, LABELS).mean() + 0.7 * distillation_loss(base, full, temperature=2.0).mean()
    )
    assert loss.item() == pytest.approx(by_parts.item(), rel=1e-5)


def test_a_sum_gives_the_super_net_the_loss_of_a_plain_training(network):
    loss = _step(network, reduction="sum", alpha=0.25)(IMAGES, LABELS, [BASE])
    full, base = network(IMAGES, "full"), network(IMAGES, "base")
    by_parts = functional.cross_entropy(full, LABELS)
    by_parts += 3 * distillation_loss(base, full, temperature=1.0).mean()
    assert loss.item() == pytest.approx(by_parts.item(), rel=1e-5)


def test_students_share_what_is_not_the_super_nets(network):
    loss = _step(network)(IMAGES, LABELS, [BASE, BETWEEN])
    full = network(IMAGES)
    students = [
        distillation_loss(network(IMAGES, one), full, temperature=1.0).mean() for one in (BASE, BETWEEN)
    ]
    by_parts = 0.5 * functional.cross_entropy(full, LABELS) + 0.25 * sum(students)
    assert loss.item() == pytest.approx(by_parts.item(), rel=1e-5)


def test_students_that_see_only_labels_hear_nothing_of_the_teacher(network):
    loss = _step(network, student_labels="only")(IMAGES, LABELS, [BASE])
    losses = [functional.cross_entropy(network(IMAGES, profile), LABELS) for profile in ("full", "base")]
    assert loss.item() == pytest.approx(0.5 * sum(losses).item(), rel=1e-5)


def test_labels_fade_for_the_students_as_the_teacher_learns_them(network):
    loss = _step(network, student_labels="fading")(IMAGES, LABELS, [BASE])
    full, base = network(IMAGES), network(IMAGES, "base")
    share = unlearnt_share(full, LABELS)
    student = share * functional.cross_entropy(base, LABELS, reduction="none")
    student += (1 - share) * distillation_loss(base, full, temperature=1.0)
    by_parts = 0.5 * functional.cross_entropy(full, LABELS) + 0.5 * student.mean()
    assert loss.item() == pytest.approx(by_parts.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("rule", "first", "temperature"),
    [
        ({}, 0, 1.0),
        ({"temperature": 2.0}, 0, 2.0),
        ({"temperature": 2.0, "feature_temperature": 3.0}, 0, 3.0),
        ({"feature_temperature": 3.0, "feature_stages": "all_but_first"}, 1, 3.0),
    ],
)
def test_features_are_compared_stage_by_stage(network, rule, first, temperature):
    with_features = _step(network, **rule, features=1000.0)
    without = _step(network, temperature=rule.get("temperature", 1.0))
    traces = network.trace_profiles(IMAGES, network.extremes)
    pooled = [[network.pool_state(state) for state in traces[one].stages] for one in network.extremes]
    extra = with_features(IMAGES, LABELS, [BASE]) - without(IMAGES, LABELS, [BASE])
    by_hand = feature_loss(pooled[1][first:], pooled[0][first:], temperature=temperature)
    assert extra.item() == pytest.approx(0.5 * 1000.0 * by_hand.mean().item(), rel=1e-3)


def test_a_teacher_from_outside_shares_the_super_nets_loss_and_is_no_part_of_the_step(network):
    seen, wanted = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    model = copy.deepcopy(network.backbone)
    teacher = Teacher(model, seen=seen, wanted=wanted)
    rule = DistillationConfig(
        reduction="mean",
        student_labels="none",
        teacher=TeacherConfig(name="vit_tiny_patch16_224", share=0.25),
        temperature=2.0,
    )
    step = SelfDistillation(network, rule, nn.CrossEntropyLoss(reduction="none"), teacher)
    full, base = network(IMAGES), network(IMAGES, "base")
    taught = distillation_loss(full, model((IMAGES * 0.5 + 0.5 - 0.4) / 0.2), temperature=2.0).mean()
    by_parts = 0.5 * (0.75 * functional.cross_entropy(full, LABELS) + 0.25 * taught)
    by_parts += 0.5 * distillation_loss(base, full, temperature=2.0).mean()
    assert step(IMAGES, LABELS, [BASE]).item() == pytest.approx(by_parts.item(), rel=1e-5)
    assert {name.split(".")[0] for name, _ in step.named_parameters()} == {"network"}


@pytest.mark.parametrize(("where", "is_everywhere"), [("all", True), ("super_net", False)])
def test_the_job_says_whose_blocks_are_dropped(digits, where, is_everywhere):
    plan = plan_training(tiny_job().override({"distillation.stochastic_depth": where}), digits)
    network = build_network(plan)
    build_step(plan, network, device=torch.device("cpu"))
    assert network.students_drop_paths is is_everywhere


def _gradients(network):
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    return gradients


def test_one_backward_equals_the_sum_of_two(network):
    _step(network)(IMAGES, LABELS, [BASE]).backward()
    together = _gradients(network)
    (0.5 * functional.cross_entropy(network(IMAGES), LABELS)).backward()
    (0.5 * distillation_loss(network(IMAGES, "base"), network(IMAGES), temperature=1.0).mean()).backward()
    torch.testing.assert_close(together, _gradients(network), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", [{}, {"features": 1.0, "student_labels": "fading", "reduction": "sum"}])
def test_passes_in_turns_give_the_gradients_of_the_joint_one(network, rule):
    step = _step(network, **rule)
    joint = step(IMAGES, LABELS, [BASE, BETWEEN])
    joint.backward()
    together = _gradients(network)
    in_turns = step.backward_in_turns(IMAGES, LABELS, [BASE, BETWEEN], torch.Tensor.backward)
    assert in_turns.item() == pytest.approx(joint.item(), rel=1e-5)
    torch.testing.assert_close(_gradients(network), together, rtol=1e-4, atol=1e-6)


def test_targets_may_be_shares_of_classes(network):
    step = _step(network, student_labels="fading")
    shares = functional.one_hot(LABELS, 3).float()
    assert step(IMAGES, shares, [BASE]).item() == pytest.approx(step(IMAGES, LABELS, [BASE]).item(), rel=1e-5)
