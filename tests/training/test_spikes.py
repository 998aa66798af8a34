"""What counts as a loss spike."""

import random

import pytest

from pipeline.training.spikes import MIN_STEPS, SMALLEST, SpikeDetector


def _spikes(losses):
    """Steps at which a detector sees a spike, with the usual loss."""
    detector = SpikeDetector()
    told = [(step, detector.usual(loss)) for step, loss in enumerate(losses)]
    return [(step, usual) for step, usual in told if usual is not None]


def test_a_spike_is_told_with_the_usual_loss():
    assert _spikes([1.0, 1.1, 0.9] * 10 + [5.0, 1.0]) == [(30, 1.0)]


def test_a_loss_that_stays_high_is_told_once():
    assert _spikes([1.0] * 30 + [5.0] * 200) == [(30, 1.0)]


def test_two_spikes_apart_are_two():
    assert [step for step, _ in _spikes([1.0] * 30 + [5.0] + [1.0] * 10 + [6.0])] == [30, 41]


def test_the_first_steps_say_nothing_about_what_is_usual():
    assert _spikes([1.0] * (MIN_STEPS - 1) + [50.0]) == []


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.9, 2.0])
def test_less_than_twice_the_usual_loss_is_no_spike(factor):
    assert _spikes([1.0] * 50 + [factor]) == []


def test_a_loss_of_zero_is_no_error():
    assert _spikes([0.0] * 30 + [1.0]) == [(30, SMALLEST)]


def test_losses_that_scatter_over_decades_are_no_spikes():
    draw = random.Random(0)
    assert _spikes([0.01 * draw.lognormvariate(0, 1) for _ in range(1000)]) == []


def test_a_falling_loss_is_no_spike():
    assert _spikes([10 / (1 + step) for step in range(500)]) == []
