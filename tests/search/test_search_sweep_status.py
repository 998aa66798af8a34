"""What a sweep's status says follows from what its observer was told."""

from types import SimpleNamespace

import pytest

from cluster.usage import Usage
from pipeline.config import parse_job
from pipeline.search.halving import Halving
from pipeline.search.observer import GuardedObserver
from pipeline.search.settings import varied_keys
from pipeline.search.sweep import SweepBoard, expected_length
from pipeline.search.trial import TrialSetup, tune_result
from pipeline.search.watcher import TrialWatcher
from pipeline.storage import StoragePath
from pipeline.training.epochs import EpochReport
from tests.digits_job import JOB

NOW_S = 1_000_000_000.0


def metrics(score):
    return {"score": score, "full/top1": score + 0.1, "base/top1": score - 0.1}


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still at NOW_S."""
    monkeypatch.setattr("pipeline.search.sweep.time.time", lambda: NOW_S)


@pytest.fixture
def board(clock):  # noqa: ARG001
    return SweepBoard("job", num_trials=4, max_epochs=4)


def tell(board, number, *scores, outcome=None, cause=None, first_s=NOW_S + 1):
    """Tell of a trial whose epochs ended a second apart."""
    board.on_start(f"t{number}", number, {"training.lr": 0.1 * number})
    for epoch, score in enumerate(scores, start=1):
        end_ms = 1000 * (first_s + epoch - 1)
        board.on_epoch(f"t{number}", metrics(score), epoch=epoch, timestamp_ms=end_ms)
    if outcome:
        board.on_end(f"t{number}", outcome, cause)


def test_before_the_first_trial_all_epochs_are_left_and_no_time_is_known(board):
    status = board.look()
    assert (status.epochs_done, status.epochs_left) == (0, 16)
    assert status.left_s(NOW_S + 5) is None
    assert status.best is None
    assert status.best_scores == ()


def test_what_is_told_twice_changes_nothing(board):
    for _ in range(2):
        tell(board, 0, 0.3, 0.5, outcome="stopped")
    (trial,) = board.look().trials
    assert [epoch.score for epoch in trial.epochs] == [0.3, 0.5]
    assert board.look().counts == {"stopped": 1}


def test_a_trial_that_waits_goes_on(board):
    tell(board, 0, 0.3)
    board.on_pause("t0")
    assert board.look().counts == {"waiting": 1}
    board.on_resume("t0")
    assert board.look().counts == {"running": 1}


def test_the_time_left_is_the_pace_so_far_times_the_epochs_that_are_expected(board):
    tell(board, 0, 0.1, 0.2, 0.3, 0.4, outcome="finished")
    tell(board, 1, 0.1, 0.1, outcome="stopped")
    tell(board, 2, 0.1, 0.1)
    # Trial 2 outlived the stopped one, so 4 epochs are expected of it; 3, the mean, of the one to come.
    status = board.look()
    assert (status.epochs_done, status.epochs_left) == (8, 2 + 3)
    assert status.left_s(NOW_S + 16) == 2.0 * 5


def test_epochs_of_an_earlier_command_do_not_count_in_the_pace(board):
    tell(board, 0, 0.1, 0.2, 0.3, 0.4, outcome="finished", first_s=NOW_S - 1000)
    assert board.look().left_s(NOW_S + 10) is None
    tell(board, 1, 0.1)
    assert board.look().left_s(NOW_S + 10) == 10.0 * board.look().epochs_left


@pytest.mark.parametrize(
    ("done", "lengths", "expected"),
    [(0, [], 5), (0, [5, 1], 3), (1, [5, 1], 5), (5, [5, 5], 5), (2, [1, 1], 5)],
)
def test_a_trial_is_expected_to_come_as_far_as_those_that_outlived_it(done, lengths, expected):
    assert expected_length(done, lengths, most=5) == expected


def test_failures_are_counted_and_never_the_best(board):
    tell(board, 0, 0.3)
    tell(board, 1, 0.9, outcome="failed", cause="OSError: disk full")
    status = board.look()
    assert status.best.name == "trial 1"
    assert status.counts == {"running": 1, "failed": 1}
    assert status.best_scores == (0.3,)


def test_the_best_score_so_far_follows_the_order_in_which_epochs_ended(board):
    tell(board, 0, 0.4, 0.2, first_s=NOW_S + 10)
    tell(board, 1, 0.3, float("nan"), 0.5, first_s=NOW_S + 9)
    assert board.look().best_scores == (0.3, 0.4, 0.4, 0.5)


def test_a_repeat_is_named_so_and_is_never_the_best(board):
    tell(board, 3, 0.3)
    tell(board, 4, 0.9)
    status = board.look()
    assert [trial.name for trial in status.trials] == ["trial 4", "repeat 1"]
    assert status.best.name == "trial 4"


def test_settings_that_all_trials_share_are_told_apart():
    trials = [{"lr": 0.1, "decay": 1e-4}, {"lr": 0.2, "decay": 1e-4}, {"lr": 0.1, "decay": 1e-4, "k": 1}]
    assert list(varied_keys(trials)) == ["lr", "k"]
    assert list(varied_keys(trials[:1])) == ["lr", "decay"]


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (Usage(1.5, 2, 0, 0), "1.5 of 2 CPUs"),
        (Usage(64, 128, 7, 8), "64 of 128 CPUs, 7 of 8 GPUs"),
        (Usage(2048, 4096, 0, 0), "2048 of 4096 CPUs"),
    ],
)
def test_usage_tells_gpus_where_there_are_some(usage, told):
    assert str(usage) == told


def test_a_trial_that_halving_stops_waits_until_it_gets_a_place(clock, board, tmp_path):  # noqa: ARG001
    search = {"space": "recipe_only", "trials": 4, "epochs": 4, "paper_first": False}
    job = parse_job({**JOB, "name": "tiny", "search": search, "registry": {"model": "tiny"}})
    folder, halving = StoragePath.local(tmp_path), Halving(trials=4, epochs=4)
    setup = TrialSetup(job, job.search, folder / "data.npz", folder)
    watcher = TrialWatcher(setup, GuardedObserver(board), halving)

    def states():
        return [trial.state for trial in board.look().trials]

    for number, score in enumerate((0.3, 0.2, 0.1)):
        history = (EpochReport(1, {**metrics(score), "train/loss": 1.0, "epoch_s": 1.0}, 1),)
        trial = SimpleNamespace(trial_id=f"t{number}", config={"number": number, "values": {}})
        trial.last_result = tune_result(history)
        watcher.on_trial_start(0, [], trial)
        watcher.on_trial_result(0, [], trial, trial.last_result)
        if not halving.report(number, history):
            watcher.on_trial_complete(0, [], trial)
    assert states() == ["waiting", "waiting", "stopped"]
    watcher.on_trial_start(0, [], SimpleNamespace(trial_id="again", config={"number": 0, "values": {}}))
    assert states() == ["running", "waiting", "stopped"]
