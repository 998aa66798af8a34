"""Which depth a call runs at, from what the profiles reach and cost."""

import pytest

from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable
from pipeline.serving import PARAMETERS, Wanted, choose


def row(profile, top1, macs, p95_ms):
    return ProfileResult(profile, False, top1, None, 1.0, macs, 10, p95_ms / 2, p95_ms, is_pareto=False)


TABLE = ProfileTable(
    (row("FF", 0.90, 100, 8.0), row("FT", 0.91, 80, 6.0), row("TF", 0.85, 80, 5.0), row("TT", 0.80, 60, 4.0)),
    num_images=50,
    latency=LatencyConditions("cpu", 2, 1, "float32"),
)


def test_without_parameters_the_depth_is_left_to_who_answers():
    assert Wanted.read({}) == Wanted.read({"profile": None, "max_macs": None}) == Wanted(None, None, False)


def test_a_profile_is_taken_as_it_is():
    assert Wanted.read({"profile": "TT", "return_profile": True}) == Wanted("TT", None, True)


@pytest.mark.parametrize(
    ("budget", "profile"),
    [
        (("max_macs", 100), "FT"),  # less is more accurate here
        (("max_macs", 80), "FT"),  # of two that cost the same
        (("max_macs", 79), "TT"),
        (("max_latency_ms", 5.9), "TF"),
        (("max_latency_ms", 4), "TT"),
        (("min_accuracy", 0.9), "FT"),
        (("min_accuracy", 0.85), "FT"),  # as cheap as TF, and more accurate
        (("min_accuracy", 0), "TT"),
    ],
)
def test_a_budget_chooses_the_best_within_it(budget, profile):
    assert choose(TABLE, Wanted.read(dict([budget])).budget).profile == profile


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"profil": "FF"}, "got 'profil'; did you mean profile"),
        ({"speed": 1}, f"parameters are {', '.join(PARAMETERS)}, got 'speed'; leave it out"),
        ({"profile": "FF", "max_macs": 3}, "got max_macs and profile; leave out all but one"),
        ({"max_latency_ms": 1, "min_accuracy": 0.5}, "got max_latency_ms and min_accuracy"),
        ({"max_macs": -1}, "max_macs is a number of 0 or more, got -1"),
        ({"max_macs": float("nan")}, "max_macs is a number of 0 or more, got nan"),
        ({"min_accuracy": "high"}, "min_accuracy is a number of 0 or more, got 'high'"),
        ({"return_profile": "yes"}, "return_profile is true or false, got 'yes'"),
    ],
)
def test_what_cannot_be_meant_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        Wanted.read(params)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (("max_macs", 59.0), "enough for some profile, got 59; the cheapest, TT, takes 60 multiply-adds"),
        (("max_latency_ms", 3.0), "the cheapest, TT, takes 4 ms on cpu, 2 threads, batch 1, float32"),
        (("max_latency_ms", 3.9999), "takes 4 ms"),
        (
            ("min_accuracy", 0.95),
            "got 0.95; the best one, FT, reaches 0.9100 on 50 validation images that may",
        ),
    ],
)
def test_a_budget_that_nothing_meets_is_refused_with_what_comes_nearest(budget, message):
    with pytest.raises(ValueError, match=message):
        choose(TABLE, budget)
