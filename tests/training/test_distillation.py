import math

import pytest
import torch

from pipeline.training.distillation import distillation_loss, feature_loss, unlearnt_share


def test_the_loss_is_the_divergence_computed_by_hand():
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distillation_loss(student, teacher, temperature=1.0).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_temperature_divides_logits_and_its_square_multiplies_the_loss():
    teacher, student = torch.randn(4, 5), torch.randn(4, 5)
    warm = distillation_loss(student, teacher, temperature=2.0)
    torch.testing.assert_close(warm, 4 * distillation_loss(student / 2, teacher / 2, temperature=1.0))


def test_gradient_never_reaches_the_teacher():
    teacher, student = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    distillation_loss(student, teacher, temperature=1.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature > 0 must hold, got {temperature}"):
        distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


def test_only_the_teachers_highest_classes_are_compared():
    teacher, student = torch.tensor([[3.0, 2.0, -9.0]]), torch.tensor([[1.0, 4.0, 7.0]])
    highest = distillation_loss(student[:, :2], teacher[:, :2], temperature=1.0)
    assert distillation_loss(student, teacher, temperature=1.0, top_k=2).item() == pytest.approx(
        highest.item()
    )


@pytest.mark.parametrize("top_k", [3, 500])
def test_as_many_highest_classes_as_there_are_classes_are_all(top_k):
    teacher, student = torch.randn(4, 3), torch.randn(4, 3)
    limited = distillation_loss(student, teacher, temperature=1.0, top_k=top_k)
    assert torch.equal(limited, distillation_loss(student, teacher, temperature=1.0))


def divergence_by_hand(student_BC, teacher_BC, temperature):
    student, teacher = ((one / temperature).exp() for one in (student_BC, teacher_BC))
    q, p = (one / one.sum(dim=1, keepdim=True) for one in (student, teacher))
    return temperature**2 * (p * (p / q).log()).sum(dim=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_feature_loss_is_the_sum_over_stages_at_a_temperature(temperature):
    student, teacher = ([torch.randn(2, size).double() for size in (4, 8)] for _ in range(2))
    by_hand = sum(map(divergence_by_hand, student, teacher, [temperature] * 2))
    loss = feature_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(loss, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_features_are_compared_in_single_precision_or_better(given, computed):
    loss = feature_loss([torch.ones(2, 4, dtype=given)], [torch.ones(2, 4, dtype=given)], temperature=1.0)
    assert loss.dtype == computed


@pytest.mark.parametrize(
    ("teacher", "targets", "share"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 3]), [0.75, 0.75]),
        (torch.tensor([[50.0, 0.0], [50.0, 0.0]]), torch.tensor([0, 1]), [0.0, 1.0]),
        (torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]), [0.5]),
    ],
)
def test_what_the_teacher_has_not_learnt_is_what_it_does_not_expect(teacher, targets, share):
    assert unlearnt_share(teacher, targets).tolist() == pytest.approx(share, abs=1e-6)
