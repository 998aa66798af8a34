"""Which trainings make a comparison, what each has in common with the job's own, and what is taken of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.baselines.collecting import collect
from pipeline.baselines.record import BaselineRecord, BaselineRecords
from pipeline.baselines.result import BaselineRun
from pipeline.baselines.trainings import (
    BaselineTraining,
    expected_s,
    is_comparable,
    planned_trainings,
)
from pipeline.baselines.verdict import describe_todo
from pipeline.config import parse_job
from pipeline.evaluation.score import Objective
from pipeline.storage import StoragePath
from pipeline.training.epochs import EpochReport
from pipeline.training.plan import plan_training
from tests.digits_job import JOB


@pytest.fixture
def final(digits):
    job = {**JOB, "name": "a-job", "seed": 7, "registry": {"model": "a-model"}}
    job["training"] = {**JOB["training"], "best_by": "full/loss"}
    return plan_training(parse_job(job), digits)


def test_the_jobs_own_training_is_the_adaptive_one_of_the_first_seed(final):
    assert [training.name for training in planned_trainings(final, num_seeds=2)] == [
        "full-seed-7",
        "base-seed-7",
        "full-seed-8",
        "base-seed-8",
        "adaptive-seed-8",
    ]


@pytest.mark.parametrize(
    "advantage",
    [
        {"winner": StoragePath.local(Path("winner"))},
        {"validates_all_profiles": True, "objective": Objective("budget", max_macs=1e9)},
    ],
)
def test_a_training_with_what_no_network_alone_can_have_is_done_again_without_it(final, advantage):
    helped = replace(final, **advantage)
    again = BaselineTraining("adaptive", 7)
    assert not is_comparable(helped)
    assert again in planned_trainings(helped, num_seeds=1)
    assert again.plan(helped) == final


def test_a_network_alone_differs_from_the_jobs_in_what_learns_and_in_nothing_else(final):
    alone = BaselineTraining("base", 8).plan(final)
    assert (alone.alone, alone.seed, alone.teacher, alone.recipe.best_by) == ("base", 8, None, "score")
    recipe = alone.recipe.model_copy(update={"best_by": final.recipe.best_by})
    assert replace(alone, alone=None, seed=7, recipe=recipe) == final


def test_the_time_to_expect_goes_by_multiply_adds():
    todo = [BaselineTraining(subject, 0) for subject in ("full", "base", "adaptive")]
    assert expected_s(todo, own_s=90.0, full_macs=200, base_macs=100) == pytest.approx(60 + 30 + 90)
    assert describe_todo(todo, expected_s=180.0) == (
        "baselines: 3 trainings, about 3 min of training: full alone, seed 0; base alone, seed 0; "
        "adaptive, seed 0"
    )
    assert describe_todo(todo[:1], expected_s=None) == "baselines: 1 trainings: full alone, seed 0"
    assert describe_todo([], expected_s=0.0) == "baselines: all trainings of the comparison are there"


def history(*epochs):
    return tuple(
        EpochReport(number, {"epoch_s": 10.0, **metrics}, 1_700_000_000_000 + number)
        for number, metrics in enumerate(epochs, start=1)
    )


ADAPTIVE = history(
    {"full/top1": 0.9, "base/top1": 0.5, "full/loss": 0.3, "score": 0.8},
    {"full/top1": 0.8, "base/top1": 0.7, "full/loss": 0.2, "score": 0.9},
    {"full/top1": 0.7, "base/top1": 0.8, "full/loss": float("nan"), "score": 0.7},
)
ALONE = history(
    {"alone/top1": 0.6, "alone/loss": 0.1, "score": 0.6},
    {"alone/top1": 0.75, "alone/loss": 0.9, "score": 0.75},
)


def test_each_side_is_taken_at_its_best_checkpoint(final):
    records = [
        BaselineRecord(BaselineTraining("base", 7), ALONE),
        BaselineRecord(BaselineTraining("adaptive", 7), ADAPTIVE),
    ]
    found = collect(records, recipe=final.recipe, num_profiles=4)
    assert found.runs == (
        BaselineRun("full", "adaptive", 7, 0.8, 2, 3, 30.0),
        BaselineRun("base", "adaptive", 7, 0.7, 2, 3, 30.0),
        BaselineRun("base", "alone", 7, 0.75, 2, 2, 20.0),
    )
    assert (found.workers, found.num_profiles) == (1, 4)


def test_records_come_back_as_they_were_and_runs_beside_them_are_none(tmp_path):
    store = BaselineRecords(StoragePath.local(tmp_path) / "baselines")
    assert store.load_all() == []
    record = BaselineRecord(BaselineTraining("base", 7), ALONE)
    store.save(record)
    (tmp_path / "baselines" / "full-seed-7").mkdir()
    assert store.load_all() == [record]
