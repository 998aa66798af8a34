"""A trial on its own: what it tells Ray Tune, whatever happened before."""

import functools
import importlib.util
import os
from pathlib import Path

import pytest
from ray import tune
from ray.tune import RunConfig

from pipeline.search.observer import GuardedObserver
from pipeline.search.record import TrialRecord, history_from_json
from pipeline.search.trial import FAILURE, HISTORY, TRIAL_RESOURCES, TrialSetup, run_name, run_trial
from pipeline.search.watcher import TrialWatcher
from pipeline.storage import StoragePath
from pipeline.training.epochs import SCORE


def load_sweep():
    spec = importlib.util.spec_from_file_location(
        "sweep_under_test", Path(__file__).with_name("sweep_under_test.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sweep = load_sweep()


@pytest.fixture
def run(ray_cluster, tmp_path, request):  # noqa: ARG001
    values = {"split": [2, 2, 1, 1]} | getattr(request, "param", {})
    job = sweep.tiny_job(tmp_path, epochs=1)
    data = sweep.save_data(job, tmp_path / "data.npz")
    setup = TrialSetup(job, job.search, data, StoragePath.local(tmp_path) / "search")
    setup.records.save(TrialRecord(trial_id="one", number=0, seed=3, values=values))

    def run_once(name):
        trainable = tune.with_resources(functools.partial(run_trial, setup=setup), TRIAL_RESOURCES)
        tuner = tune.Tuner(
            trainable,
            param_space={"number": 0},
            run_config=RunConfig(name=name, storage_path=str(tmp_path)),
        )
        return tuner.fit()[0]

    return run_once, setup


@pytest.mark.slow
def test_a_trial_whose_last_report_a_kill_swallowed_reports_it_when_it_goes_on(run):
    run_once, setup = run
    before = run_once("before").metrics
    assert (setup.runs / run_name("one")).exists()
    after = run_once("after").metrics
    assert after[SCORE] == before[SCORE] > 0
    assert history_from_json(after[HISTORY]) == history_from_json(before[HISTORY])


@pytest.mark.parametrize("run", [{"training.lr": 1e30, "training.warmup_epochs": 0}], indirect=True)
def test_a_trial_that_diverges_is_told_as_failed_with_its_cause(run):
    run_once, _ = run
    metrics = run_once("diverges").metrics
    assert metrics[FAILURE].startswith("the training loss must stay finite, got nan in epoch 1, step 2 of")
    assert metrics[SCORE] == 0.0
    assert history_from_json(metrics[HISTORY]) == ()


def raise_an_error(_config):
    raise OSError("the disk is full")


def die(_config):
    os._exit(1)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [(raise_an_error, "OSError: the disk is full"), (die, "The actor died unexpectedly")],
)
def test_a_trial_whose_process_breaks_is_recorded_with_its_cause(ray_cluster, tmp_path, broken, cause):  # noqa: ARG001
    job = sweep.tiny_job(tmp_path)
    folder = StoragePath.local(tmp_path)
    watcher = TrialWatcher(
        TrialSetup(job, job.search, folder / "data.npz", folder), GuardedObserver(sweep.Diary())
    )
    tune.Tuner(
        tune.with_resources(broken, TRIAL_RESOURCES),
        param_space={"number": 0, "values": {}},
        run_config=RunConfig(name="broken", storage_path=str(tmp_path), callbacks=[watcher]),
    ).fit()
    (record,) = watcher.ended()
    assert record.outcome == "failed"
    assert record.cause.startswith(cause)
