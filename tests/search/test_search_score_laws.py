import json
import math

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError

from pipeline.errors import JobError
from pipeline.search.record import RecordStore, TrialRecord
from pipeline.search.result import SearchResult, TrialResult
from pipeline.search.score import outcome_of, score_so_far
from pipeline.search.trial import cause_of, tune_result
from pipeline.storage import StoragePath
from pipeline.training.epochs import EpochReport


def history(*epochs):
    """Epochs given as (score, loss)."""
    return tuple(
        EpochReport(number, {"score": score, "train/loss": loss, "epoch_s": 2.0}, 1000 * number)
        for number, (score, loss) in enumerate(epochs, start=1)
    )


def record(number, *epochs, outcome="finished", cause=None):
    return TrialRecord(f"id{number}", number, 7, {"training.lr": 0.1}, history(*epochs), outcome, cause)


@pytest.mark.parametrize(
    ("epochs", "score"),
    [
        ([], 0.0),
        ([(0.3, 1.0)], 0.3),
        ([(0.3, 1.0), (0.5, 1.0), (0.4, 1.0)], 0.5),
        ([(0.3, 1.0), (0.5, math.nan)], 0.0),
        ([(0.3, math.inf)], 0.0),
        ([(math.nan, 1.0)], 0.0),
    ],
)
def test_score_is_the_best_so_far_and_0_once_a_training_diverged(epochs, score):
    assert score_so_far(history(*epochs)) == score


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_number_that_is_not_finite_reaches_optuna_or_asha(loss):
    told = tune_result(history((0.3, 1.0), (0.4, loss)))
    assert math.isfinite(told["score"])
    assert told["epoch"] == 2


def test_a_broken_training_is_worth_0_and_says_why():
    told = tune_result(history((0.3, 1.0)), failure="OSError: disk full")
    assert (told["score"], told["failure"]) == (0.0, "OSError: disk full")


@pytest.mark.parametrize(
    ("epochs", "outcome"),
    [
        ([(0.3, 1.0)] * 3, "finished"),
        ([(0.3, 1.0)] * 2, "stopped"),
        ([(0.3, math.nan)] * 3, "failed"),
    ],
)
def test_outcome_follows_from_the_epochs(epochs, outcome):
    assert outcome_of(history(*epochs), epochs=3)[0] == outcome


def test_cause_of_a_diverged_trial_names_loss_epoch_and_way_out():
    _, cause = outcome_of(history((0.3, 1.0), (0.2, math.nan)), epochs=3)
    assert cause == "loss and score must stay finite, got nan and 0.2 in epoch 2; lower the learning rate"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (WorkerGroupError("text", {1: OSError("a\ndisk full")}), "OSError: disk full"),
        (
            WorkerGroupError("text", {0: OSError("reset"), 1: ActorDiedError()}),
            f"ActorDiedError: {ActorDiedError()}",
        ),
        (ControllerError(ValueError("no place")), "ValueError: no place"),
        (WorkerGroupError("nobody", {}), "WorkerGroupError: nobody"),
    ],
)
def test_cause_is_the_first_workers_own_error(error, cause):
    assert cause_of(error) == cause


def test_a_report_that_arrives_twice_changes_nothing():
    once = record(0, (0.3, 1.0), (0.4, 1.0))
    assert once.with_history(history((0.3, 1.0))) == once


def test_records_come_back_as_they_were_stored(tmp_path):
    store, kept = RecordStore(StoragePath.local(tmp_path) / "records"), record(0, (0.3, 1.0))
    store.save(record(1, outcome=None))
    store.save(kept)
    assert [found.number for found in store.load_all()] == [0, 1]
    assert store.load(0) == kept


def test_best_is_the_highest_score_among_trials_that_did_not_fail():
    broken = record(0, (0.9, 1.0), outcome="failed", cause="OSError: disk full")
    trials = [TrialResult.from_record(r) for r in (broken, record(2, (0.5, 1.0)), record(1, (0.5, 1.0)))]
    assert SearchResult.of(trials, importance={}, num_dropped=0).best.number == 1


def test_sweep_without_a_sound_trial_is_an_error_with_every_cause():
    trials = [TrialResult.from_record(record(n, outcome="failed", cause=f"cause {n}")) for n in (0, 1)]
    with pytest.raises(
        JobError,
        match=r"all 2 did:\n  trial 0: cause 0\n  trial 1: cause 1\n.*run the same command",
    ):
        SearchResult.of(trials, importance={}, num_dropped=0)


def test_result_is_plain_json_and_comes_back_equal():
    result = SearchResult.of(
        [TrialResult.from_record(record(0, (0.5, 1.0)))], importance={"training.lr": 1.0}, num_dropped=2
    )
    assert json.loads(result.to_json())["trials"][0]["values"] == {"training.lr": 0.1}
    assert SearchResult.from_json(result.to_json()) == result
