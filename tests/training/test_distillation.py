import math

import pytest
import torch
from torch.nn import functional

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.training.distillation import SelfDistillation, distillation_loss


def test_the_loss_is_the_divergence_computed_by_hand():
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distillation_loss(student, teacher, temperature=1.0).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_temperature_divides_logits_and_its_square_multiplies_the_loss():
    teacher, student = torch.randn(4, 5), torch.randn(4, 5)
    warm = distillation_loss(student, teacher, temperature=2.0)
    assert warm.item() == pytest.approx(
        4 * distillation_loss(student / 2, teacher / 2, temperature=1.0).item()
    )


def test_gradient_never_reaches_the_teacher():
    teacher, student = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    distillation_loss(student, teacher, temperature=1.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature > 0 must hold, got {temperature}"):
        distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AdaptiveDepthNetwork.from_timm(
        "vit_tiny_patch16_224",
        num_classes=3,
        image_size=8,
        patch_size=4,
        depth=4,
        embed_dim=8,
        num_heads=1,
    )


def test_the_joint_loss_weighs_labels_and_distillation(network):
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    loss = SelfDistillation(network, alpha=0.3, temperature=2.0, label_smoothing=0.1)(images, labels)
    full, base = network(images, "full"), network(images, "base")
    by_parts = 0.3 * functional.cross_entropy(full, labels, label_smoothing=0.1)
    by_parts += 0.7 * distillation_loss(base, full, temperature=2.0)
    assert loss.item() == pytest.approx(by_parts.item(), rel=1e-5)


def test_one_backward_equals_the_sum_of_two(network):
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    SelfDistillation(network, alpha=0.5, temperature=1.0, label_smoothing=0.0)(images, labels).backward()
    together = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    (0.5 * functional.cross_entropy(network(images), labels)).backward()
    (0.5 * distillation_loss(network(images, "base"), network(images), temperature=1.0)).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-4, atol=1e-6)
