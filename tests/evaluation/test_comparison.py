import pytest
import torch

from pipeline.evaluation.comparison import ClassAccuracy, Comparison
from pipeline.networks import DepthProfile

CPU = torch.device("cpu")
PROFILES = DepthProfile.enumerate(1)
FULL, BASE = PROFILES


def _logits(*classes, confidence=5.0):
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float() * confidence


def _compare(*batches, num_shown=2):
    comparison = Comparison(PROFILES, num_classes=3, num_shown=num_shown, device=CPU)
    for full, base, labels in batches:
        images = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1)
        comparison.watch(images, {FULL: full, BASE: base}, torch.tensor(labels))
    return comparison


def test_agreement_is_the_share_of_equal_answers_over_all_batches():
    found = _compare(
        (_logits(0, 1, 2), _logits(0, 1, 1), [0, 0, 0]),
        (_logits(0), _logits(0), [1]),
    )
    assert found.agreement == {"F": 1.0, "T": 0.75}


def test_classes_count_images_and_what_each_extreme_gets_right():
    found = _compare((_logits(0, 0, 2), _logits(0, 1, 1), [0, 0, 2]))
    assert found.classes == (ClassAccuracy(2, 2, 1), ClassAccuracy(0, 0, 0), ClassAccuracy(1, 1, 0))


def test_images_with_the_widest_gap_are_kept_across_batches():
    narrow = (_logits(0, confidence=0.5), _logits(1, confidence=0.5), [0])
    wide = (_logits(0, 2, 1), _logits(1, 2, 2), [0, 2, 1])
    found = _compare(narrow, wide)
    assert [(one.label, one.full, one.base) for one in found.shown] == [(0, 0, 1), (1, 1, 2)]
    assert [one.image.item() for one in found.shown] == [0.0, 2.0]
    assert found.shown[0].gap == pytest.approx((148.413 - 1) / (148.413 + 2), abs=1e-4)


def test_equal_answers_are_never_shown():
    unsure = (_logits(0, confidence=9.0), _logits(0, confidence=0.1), [0])
    assert _compare(unsure).shown == ()
