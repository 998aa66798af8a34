"""Runs are found again after a kill, and nothing is logged twice."""

import math

import pytest

from pipeline.registry.tracking import JobRun, flatten_params, is_closed


@pytest.fixture
def reopen(client, experiment_id):
    def call(**params):
        return JobRun.open(client, experiment_id, name="job", key="job-1", params=params, tags={"seed": "1"})

    return call


def status(client, run_id):
    return client.get_run(run_id).info.status


def test_the_same_key_opens_the_same_run_again(run, reopen, client):
    run.close("FAILED")
    again = reopen()
    assert (again.run_id, again.start_time_ms) == (run.run_id, run.start_time_ms)
    assert status(client, run.run_id) == "RUNNING"


def test_params_that_a_run_has_keep_their_values(reopen, client):
    reopen(optimizer={"lr": 0.1})
    run = reopen(optimizer={"lr": 0.2, "betas": [0.9, 0.99]})
    assert client.get_run(run.run_id).data.params == {
        "optimizer.lr": "0.1",
        "optimizer.betas": "[0.9, 0.99]",
    }


def test_more_params_than_one_request_takes_are_all_logged(reopen, client):
    run = reopen(**{f"p{index}": index for index in range(150)})
    assert len(client.get_run(run.run_id).data.params) == 150


def test_nested_params_become_dotted_names():
    params = {"a": {"b": {"c": True}}, "d": None, "e": "x", "f": {}, "g": ("y", 1)}
    assert flatten_params(params) == {
        "a.b.c": "True",
        "d": "null",
        "e": "x",
        "f": "{}",
        "g": '["y", 1]',
    }


def test_an_epoch_logged_again_is_kept_once(run, client):
    run_id = run.trial("t0", {}, name="trial 1")
    for _ in range(2):
        for step, loss in enumerate([2.0, math.nan, math.inf]):
            run.log_epoch(
                run_id,
                {"loss": loss, "top1": 0.5},
                step=step,
                timestamp_ms=1_700_000_000_000 + step,
            )
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [0, 1, 2]
    assert [metric.step for metric in client.get_metric_history(run_id, "top1")] == [0, 1, 2]


def test_a_trial_is_nested_and_found_again_after_a_kill(run, reopen, client):
    run_id = run.trial("t0", {"lr": 0.1}, name="trial 1")
    assert reopen().trial("t0", {"lr": 0.1}, name="trial 1") == run_id
    assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == run.run_id


def test_a_finished_trial_stays_finished(run, reopen, client):
    run_id = run.trial("t0", {}, name="trial 1")
    run.end_trial("t0", "FINISHED")
    ended = client.get_run(run_id).info.end_time
    again = reopen()
    again.trial("t0", {}, name="trial 1")
    again.end_trial("t0", "FINISHED")
    assert (status(client, run_id), client.get_run(run_id).info.end_time) == ("FINISHED", ended)


def test_closing_leaves_no_run_running(run, reopen, client, experiment_id):
    run.trial("t0", {}, name="trial 1")
    run.end_trial("t0", "FINISHED")
    run.trial("left by a killed driver", {}, name="trial 2")
    reopen().close("FINISHED")
    statuses = sorted(found.info.status for found in client.search_runs([experiment_id]))
    assert statuses == ["FINISHED", "FINISHED", "KILLED"]


def test_a_trial_made_by_a_server_that_did_not_say_so_is_found(run, client, experiment_id):
    tags = {"mlflow.parentRunId": run.run_id, "skipline.trial_id": "t0"}
    made = client.create_run(experiment_id, tags=tags)
    assert run.trial("t0", {}, name="trial 1") == made.info.run_id


def test_only_trials_that_ended_are_told_apart_when_a_job_goes_on(run, reopen):
    for trial_id in ("ended", "failed", "running"):
        run.trial(trial_id, {}, name=trial_id)
    run.end_trial("ended", "FINISHED")
    run.end_trial("failed", "FAILED")
    assert reopen().ended_trials == {"ended", "failed"}


def test_a_job_is_closed_once_its_run_has_finished(run, client):
    assert not is_closed(client, "tests", "job-1")
    run.close("FINISHED")
    assert is_closed(client, "tests", "job-1")
    assert not is_closed(client, "elsewhere", "job-1")


def test_a_trial_that_was_never_opened_cannot_end(run):
    with pytest.raises(ValueError, match="'t9' was not; call `trial` first"):
        run.end_trial("t9", "FAILED")


def test_a_key_is_made_of_safe_characters(client, experiment_id):
    with pytest.raises(ValueError, match='got "a\'b"'):
        JobRun.open(client, experiment_id, name="job", key="a'b", params={}, tags={})
