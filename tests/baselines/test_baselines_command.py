"""`skipline train --baselines` as a user meets it: real Ray, real MLflow, real processes, one killed."""

import pytest
from mlflow import MlflowClient

from pipeline.baselines.result import Baselines
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import read_stored_history
from tests.faults.commands import Command, write_job

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run."""
    folder = tmp_path_factory.mktemp("baselines")
    write_job(folder, training={"epochs": 2, "workers": 2})
    return folder


@pytest.fixture(scope="module")
def printed(folder):
    """What the commands print: with one seed, and with two where the first attempt was killed."""
    commands = []

    def begin(*arguments):
        commands.append(Command(folder, "train", "job.yaml", "--baselines", *arguments))
        return commands[-1]

    try:
        assert begin("--seeds", "1").end() == 0
        begin("--seeds", "2").until("full alone, seed 1  epoch 1/2")
        commands[-1].kill()
        assert begin("--seeds", "2").end() == 0
        yield [command.printed for command in commands]
    finally:
        for command in commands:
            command.kill()


@pytest.fixture(scope="module")
def result(printed, folder):  # noqa: ARG001
    return Baselines.from_json((folder / "runs" / "broken" / "baselines.json").read_text())


def test_what_will_be_trained_is_said_before_and_after_the_jobs_own_training(printed):
    todo = "2 trainings{}: full alone, seed 0; base alone, seed 0"
    assert f"baselines: {todo.format('')}; the job's own training is first" in printed[0]
    assert printed[0].index("epoch 2/2") < printed[0].index(" of training: full alone, seed 0; base alone")
    assert "with one seed, which says nothing about its noise" in printed[0]


def test_what_ended_is_not_trained_again_and_a_killed_training_goes_on(printed):
    assert "seed 0  epoch" not in printed[2]
    assert "full alone, seed 1  epoch 1/2" not in printed[2]
    assert "adaptive, seed 1  epoch 2/2  full 0." in printed[2]
    assert "base alone, seed 1  epoch 2/2  alone 0." in printed[2]


def test_every_depth_has_a_run_of_each_kind_and_seed(result):
    assert sorted((run.kind, run.profile, run.seed) for run in result.runs) == [
        (kind, profile, seed)
        for kind in ("adaptive", "alone")
        for profile in ("base", "full")
        for seed in (0, 1)
    ]
    assert [(one.profile, one.num_pairs) for one in result.comparisons] == [("full", 2), ("base", 2)]


def test_each_training_is_a_nested_run_with_its_epochs_and_the_parent_has_the_result(result, folder):
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("skipline").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = {run.info.run_name: run for run in runs if run is not parent}
    assert sorted(nested) == [
        "baseline adaptive, seed 1",
        "baseline base alone, seed 0",
        "baseline base alone, seed 1",
        "baseline full alone, seed 0",
        "baseline full alone, seed 1",
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    base = nested["baseline base alone, seed 1"]
    assert base.data.params == {"profile": "base", "trained": "alone", "seed": "1"}
    checkpoint = folder / "runs" / "broken" / "baselines" / "base-seed-1" / "checkpoint_0002"
    history = read_stored_history(StoragePath.local(checkpoint))
    logged = {one.step: one.value for one in client.get_metric_history(base.info.run_id, "alone/top1")}
    assert logged == {report.epoch: report.metrics["alone/top1"] for report in history}
    (top1,) = [run.top1 for run in result.runs if (run.kind, run.profile, run.seed) == ("alone", "base", 1)]
    assert top1 == max(logged.values())
    assert "baselines.json" in [file.path for file in client.list_artifacts(parent.info.run_id)]
