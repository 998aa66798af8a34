"""Gain and spread, against numbers by hand."""

import pytest

from pipeline.baselines.result import BaselineRun, Baselines, Spread, TrainingCost
from pipeline.baselines.verdict import describe_baselines, table_rows


def runs(profile, kind, *top1, first_seed=0, train_s=900.0):
    return [
        BaselineRun(profile, kind, first_seed + number, value, 5, 6, train_s)
        for number, value in enumerate(top1)
    ]


def baselines(*groups, workers=2, num_profiles=16):
    made = Baselines(tuple(run for group in groups for run in group), workers, num_profiles)
    assert Baselines.from_json(made.to_json()) == made
    return made


THREE = baselines(
    runs("full", "alone", 0.80, 0.82, 0.81, train_s=1800.0),
    runs("full", "adaptive", 0.83, 0.83, 0.84, train_s=2700.0),
    runs("base", "alone", 0.70, 0.72, 0.71, train_s=900.0),
    runs("base", "adaptive", 0.72, 0.7425, 0.7275, train_s=2700.0),
)


def test_a_gain_is_the_mean_over_seeds_and_its_error_that_of_their_differences():
    full, base = THREE.comparisons
    assert (full.profile, base.profile) == ("full", "base")
    assert full.alone == Spread(pytest.approx(0.81), pytest.approx(0.01), 3)
    assert full.gain == pytest.approx(0.07 / 3)  # +0.03, +0.01, +0.03
    assert full.gain_error == pytest.approx((0.0004 / 3) ** 0.5 / 3**0.5)
    assert base.gain == pytest.approx(0.02)  # +0.02, +0.0225, +0.0175
    assert base.gain_error == pytest.approx(0.0025 / 3**0.5)


def test_a_gain_is_more_than_noise_only_beyond_students_quantile():
    # 4.303 standard errors for two degrees of freedom: 0.0287 and 0.0062.
    assert [one.is_beyond_noise for one in THREE.comparisons] == [False, True]


def test_one_seed_has_no_spread_and_says_so():
    one = baselines(runs("full", "alone", 0.80), runs("full", "adaptive", 0.81))
    (full,) = one.comparisons
    assert (full.alone.std, full.gain_error, full.is_beyond_noise) == (None, None, None)
    assert describe_baselines(one) == [
        "full: adaptive 0.8100, alone 0.8000; difference +0.0100 with one seed, which says nothing about its "
        "noise",
        "top-1 is on validation images that also chose the epoch of each training",
    ]
    assert table_rows(one) == [["full", "1", "0.8100", "0.8000", "+0.0100", ""]]


def test_a_gain_is_taken_over_the_seeds_that_both_have():
    partly = baselines(
        runs("full", "alone", 0.5, 0.8, 0.9), runs("full", "adaptive", 0.81, 0.92, first_seed=1)
    )
    (full,) = partly.comparisons
    assert (full.num_pairs, full.alone.num, full.adaptive.num) == (2, 3, 2)
    assert full.gain == pytest.approx(0.015)


def test_a_depth_that_one_side_lacks_is_not_compared():
    unpaired = runs("base", "adaptive", 0.7, first_seed=5)
    assert baselines(runs("base", "alone", 0.7), unpaired, runs("full", "alone", 0.8)).comparisons == ()


def test_the_cost_is_one_training_against_one_for_each_depth():
    assert THREE.cost == TrainingCost(
        adaptive_h=pytest.approx(1.5), pair_h=pytest.approx(1.5), every_depth_h=pytest.approx(12.0)
    )
    assert baselines(runs("full", "alone", 0.5)).cost is None


def test_the_verdict_says_gain_loss_or_noise_for_every_depth():
    assert describe_baselines(THREE) == [
        "full: adaptive 0.8333 ± 0.0058, alone 0.8100 ± 0.0100; difference +0.0233 with a standard error of "
        "0.0067 over 3 seeds: no more than noise (paired t-test, 95 %)",
        "base: adaptive 0.7300 ± 0.0115, alone 0.7100 ± 0.0100; gain +0.0200 with a standard error of 0.0014 "
        "over 3 seeds: more than noise (paired t-test, 95 %)",
        "top-1 is on validation images that also chose the epoch of each training",
        "cost: 1.5 worker-hours for all 16 depths of the adaptive network; 1.5 for full and base alone, "
        "about 12 for each of the 16 alone",
    ]
    worse = baselines(runs("full", "alone", 0.8, 0.8), runs("full", "adaptive", 0.7, 0.701))
    assert "; loss -0.0995 with a standard error of 0.0005 over 2 seeds: more" in describe_baselines(worse)[0]


def test_networks_that_reach_the_same_have_no_gain():
    (full,) = baselines(runs("full", "alone", 0.8, 0.9), runs("full", "adaptive", 0.8, 0.9)).comparisons
    assert (full.gain, full.is_beyond_noise) == (0, False)
