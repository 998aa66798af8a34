"""The verdict says what the trials say."""

from dataclasses import replace

import pytest

from pipeline.config import parse_job
from pipeline.search.result import SearchResult, TrialResult
from pipeline.search.verdict import describe_verdict


def make_job(**search):
    return parse_job(
        {
            "name": "a-job",
            "data": {"train": "builtin:digits"},
            "backbone": {"name": "resnet18"},
            "training": {"epochs": 10, "workers": 2},
            "search": {"space": "resnet", "trials": 3, "epochs": 4, **search},
            "registry": {"model": "a-model"},
        }
    )


def trial(number, score, epochs=4, outcome="finished"):
    cause = "OSError: disk full" if outcome == "failed" else None
    return TrialResult(f"id{number}", number, 0, {}, score, epochs, outcome, cause, {}, 450.0)


def verdict(*trials, repeats=(), importance=(), num_dropped=0, **search):
    result = SearchResult.of(trials, importance=dict(importance), num_dropped=num_dropped, repeats=repeats)
    assert SearchResult.from_json(result.to_json()) == result
    return describe_verdict(make_job(**search), result)


def test_the_winner_is_compared_with_the_jobs_own_design_and_the_cost_with_full_training():
    assert verdict(trial(0, 0.5), trial(1, 0.4, 1, "stopped"), trial(2, 0.625, 4)) == [
        "best: trial 3, hypervolume 0.6250, +0.1250 against the job's own settings (trial 1, 0.5000), in one "
        "run each",
        "cost: 9 of the 12 epochs of training every trial fully (75%), 0.75 worker-hours",
    ]


def test_what_was_deleted_is_told():
    trials = [replace(trial(number, 0.5), deleted_bytes=3 * 2**20) for number in range(2)]
    assert "deleted: 6.0 MiB of checkpoints; only records of trials stay" in verdict(*trials)


def test_the_jobs_own_design_may_win():
    assert verdict(trial(0, 0.5), trial(1, 0.4))[0] == "best: trial 1, hypervolume 0.5000, which won"


@pytest.mark.parametrize("own", [{"paper_first": False}, {"own": "failed"}])
def test_nothing_is_compared_where_there_is_nothing_to_compare_with(own):
    outcome = own.pop("own", "finished")
    first = verdict(trial(0, 0.0, outcome=outcome), trial(1, 0.4), **own)[0]
    assert first == "best: trial 2, hypervolume 0.4000"


def traded(number, full, cost, score, outcome="finished"):
    metrics = {"full/top1": full, "base/top1": 0.0, "base/cost": cost}
    return TrialResult(f"id{number}", number, 0, {}, score, 4, outcome, None, metrics, 450.0)


def test_of_what_is_traded_off_the_front_is_told_and_its_best_score_wins():
    trials = [traded(0, 0.5, 0.6, 0.30), traded(1, 0.6, 0.7, 0.35), traded(2, 0.4, 0.7, 0.90)]
    broken = TrialResult("id3", 3, 0, {}, 0.0, 0, "failed", "OSError: disk full", {}, 0.0)
    pareto = ("full_accuracy", "base_cost")
    result = SearchResult.of([*trials, broken], importance={}, num_dropped=0, front=(0, 1))
    assert SearchResult.from_json(result.to_json()) == result
    # Trial 3 has the highest score, but trial 1 is more accurate and cheaper.
    best, front, *_ = describe_verdict(make_job(trials=4, pareto=list(pareto)), result)
    assert best.startswith("best: trial 2, hypervolume 0.3500, +0.0500")
    assert front == (
        "front of full_accuracy, base_cost: trial 1 (0.5000, 0.6000); trial 2 (0.6000, 0.7000); the best is "
        "the one with the highest hypervolume"
    )


def test_repeats_tell_the_difference_with_its_noise_and_count_in_the_cost():
    repeats = [trial(3, 0.50), trial(4, 0.60), trial(5, 0.52), trial(6, 0.64), trial(7, 0.54), trial(8, 0.62)]
    lines = verdict(trial(0, 0.5), trial(1, 0.7), repeats=repeats)
    assert lines[1] == (
        "again with 3 new seeds: best 0.6200 ± 0.0200, own 0.5200 ± 0.0200; difference +0.1000 with a "
        "standard error of 0.0163"
    )
    assert lines[2].endswith("2 worker-hours")


def test_repeats_that_failed_leave_no_figure_that_is_none():
    repeats = [trial(3, 0.50), trial(4, 0.0, outcome="failed")]
    line = verdict(trial(0, 0.5), trial(1, 0.7), repeats=repeats)[1]
    assert line == "again with new seeds: best [], own [0.5]; too few for a difference with its noise"


def test_what_was_dropped_and_what_mattered_is_told():
    lines = verdict(trial(0, 0.5), num_dropped=7, importance=[("training.lr", 0.75), ("split/3_of_4", 0.25)])
    assert lines[-2:] == [
        "dropped: 7 designs that no training brings within the budget",
        "what mattered (fANOVA): training.lr 75%, split/3_of_4 25%",
    ]
