"""One real sweep on Ray: three trials of two epochs on two workers that use both CPUs."""

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ray.util import placement_group_table
from ray.util.state import list_actors

from pipeline.search.driver import run_repeats, run_search
from pipeline.search.observer import GuardedObserver
from pipeline.search.result import SearchResult
from pipeline.search.trial import TrialSetup
from pipeline.search.watcher import TrialWatcher
from pipeline.storage import StoragePath


def load_sweep():
    spec = importlib.util.spec_from_file_location(
        "sweep_under_test", Path(__file__).with_name("sweep_under_test.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sweep = load_sweep()


def groups_in_use():
    return [group for group in placement_group_table().values() if group["state"] != "REMOVED"]


def living_actors():
    # Ray Train keeps one actor a cluster for what the State API shows of it, and one that asks for nodes.
    filters = [
        ("state", "!=", "DEAD"),
        ("class_name", "!=", "TrainStateActor"),
        ("class_name", "!=", "_AutoscalingCoordinatorActor"),
    ]
    return [(actor.actor_id, actor.class_name) for actor in list_actors(filters=filters, limit=1000)]


def wait_until_gone(what):
    # Ray's cleaner needs some seconds to notice that a stopped trial is gone.
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s and what():
        time.sleep(0.5)
    return what()


class BrokenDiary(sweep.Diary):
    def on_epoch(self, trial_id, metrics, *, epoch, timestamp_ms):
        super().on_epoch(trial_id, metrics, epoch=epoch, timestamp_ms=timestamp_ms)
        raise ConnectionError("the tracking server is away")


@pytest.fixture(scope="module")
def swept(ray_cluster, tmp_path_factory):  # noqa: ARG001
    folder = tmp_path_factory.mktemp("sweep")
    job = sweep.tiny_job(folder)
    data, diary = sweep.save_data(job, folder / "data.npz"), BrokenDiary()

    def run(observer):
        return run_search(
            job, data, folder=StoragePath.local(folder) / "search", stages=sweep.STAGES, observers=[observer]
        )

    return run(diary), diary, folder / "search", run


def test_trial_0_is_the_papers_split_with_the_jobs_own_recipe(swept):
    first = swept[0].trials[0]
    assert first.number == 0
    assert first.values == {
        "split": [2, 2, 1, 1],
        "training.lr": 0.1,
        "training.weight_decay": 1e-4,
        "distillation.alpha": 0.5,
        "distillation.temperature": 1.0,
    }


def test_best_trial_has_the_highest_score(swept):
    result = swept[0]
    assert result.best.score == max(trial.score for trial in result.trials) > 0


def test_trials_train_at_most_the_epochs_of_the_search_and_fewer_only_when_stopped(swept):
    first, *ends = [(trial.epochs, trial.outcome) for trial in swept[0].trials]
    assert first == (2, "finished")
    assert sorted(ends) == [(1, "stopped"), (2, "finished")]  # half of the others


def test_score_is_that_of_the_best_epoch(swept):
    result, diary, *_ = swept
    scores = [line[4]["score"] for line in diary.lines if line[:2] == ("epoch", result.best.trial_id)]
    assert result.best.score == max(scores)


def test_observer_hears_of_every_epoch_once_although_it_raises(swept):
    result, diary, *_ = swept
    heard = [(line[1], line[2]) for line in diary.lines if line[0] == "epoch"]
    assert sorted(heard) == sorted(
        (trial.trial_id, n + 1) for trial in result.trials for n in range(trial.epochs)
    )


@pytest.mark.usefixtures("swept")
def test_no_placement_group_is_left_after_a_sweep():
    assert wait_until_gone(groups_in_use) == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_twenty_stopped_trials_leave_no_process_and_no_placement_group(tmp_path):
    job = sweep.tiny_job(tmp_path, trials=24, epochs=2).override({"training.workers": 1})
    data, diary = sweep.save_data(job, tmp_path / "data.npz"), sweep.Diary()
    before = set(living_actors())
    result = run_search(
        job, data, folder=StoragePath.local(tmp_path) / "search", stages=sweep.STAGES, observers=[diary]
    )
    assert [trial.outcome for trial in result.trials].count("stopped") >= 11
    assert wait_until_gone(groups_in_use) == []
    assert wait_until_gone(lambda: set(living_actors()) - before) == set()


def test_only_results_of_trials_stay(swept):
    folder = swept[2]
    assert not (folder / "trials").exists()
    assert len(list((folder / "records").glob("*.json"))) == 3


def test_result_survives_json(swept):
    assert SearchResult.from_json(swept[0].to_json()) == swept[0]


def test_same_call_again_tells_everything_again_and_trains_nothing(swept):
    result, diary, _, run = swept
    again = sweep.Diary()
    assert run(again) == result
    assert sorted(map(repr, again.lines)) == sorted(map(repr, diary.lines))


def test_a_sweep_whose_study_was_lost_costs_no_trial(swept):
    result, diary, folder, run = swept
    (folder / "result.json").unlink()
    (folder / "study.db").unlink()
    again = sweep.Diary()
    assert run(again) == result
    assert sorted(map(repr, again.lines)) == sorted(map(repr, diary.lines))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_best_splits_of_a_one_shot_network_are_tried_first_and_it_is_trained_once(tmp_path):
    job = sweep.tiny_job(tmp_path, trials=3, epochs=1, warmup="one_shot")
    data, folder = sweep.save_data(job, tmp_path / "data.npz"), StoragePath.local(tmp_path) / "search"

    class Told:
        def __init__(self):
            self.scores, self.epochs = [], []

        def on_progress(self, progress):
            self.epochs += [report.epoch for report in progress.reports]

        def on_scores(self, scores):
            self.scores.append(dict(scores))

    told, results = Told(), []
    for _ in range(2):
        results.append(
            run_search(
                job, data, folder=folder, stages=sweep.STAGES, observers=[sweep.Diary()], on_warmup=told
            )
        )
        (folder / "result.json").delete()
    assert results[0] == results[1]
    assert told.epochs == [1]
    scores, again = told.scores
    assert scores == again
    assert sorted(scores) == [(1, 1, 1, 1), (1, 2, 1, 1), (2, 1, 1, 1), (2, 2, 1, 1)]
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    best = [list(split) for split in scores if split != (2, 2, 1, 1)]  # which is the job's own
    assert [trial.values["split"] for trial in results[0].trials] == [[2, 2, 1, 1], *best[:2]]


@pytest.mark.slow
def test_repeats_train_both_designs_in_turns_with_new_seeds_for_all_epochs(swept):
    result, _, folder, _ = swept
    job = sweep.tiny_job(folder.parent, repeats=1)
    path = StoragePath.local(folder)
    setup = TrialSetup(job, job.search, path / "data.npz", path)
    for _ in range(2):  # the second time nothing is left to train
        diary = sweep.Diary()
        watcher = TrialWatcher(setup, GuardedObserver(diary))
        repeats = run_repeats(setup, watcher, replace(result, best=result.trials[1]))
        assert [trial.values for trial in repeats] == [trial.values for trial in result.trials[:2]]
        assert {trial.epochs for trial in repeats} == {2}
        assert len({trial.seed for trial in (*result.trials, *repeats)}) == 5
    assert diary.lines == []
