"""A driver killed while it uploads leaves a store in which the same job ends with one version."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.registry.register import register_model
from pipeline.registry.store import connect, embedded_uri, ensure_experiment
from pipeline.registry.tracking import JobRun
from pipeline.storage import StoragePath

DRIVER = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
from conftest import ORIGIN, PREPROCESSING, table_of, tiny_network
from mlflow.tracking import MlflowClient
from test_registry_kill import job
MlflowClient.log_model_artifacts = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
job(pathlib.Path(sys.argv[2]), tiny_network(), PREPROCESSING, table_of(4), ORIGIN)
"""


def job(storage, network, preprocessing, table, origin):
    """What a driver does: open the runs, end one trial, leave one to the end, register."""
    client = connect(embedded_uri(storage))
    experiment_id = ensure_experiment(
        client, "kill", artifact_root=StoragePath.local(storage) / "mlflow-artifacts"
    )
    run = JobRun.open(client, experiment_id, name="job", key="job-1", params={"a": 1}, tags={})
    run.trial("t0", {}, name="trial 1")
    run.end_trial("t0", "FINISHED")
    run.trial("t1", {}, name="trial 2")
    register_model(
        client,
        run,
        name="net",
        key="job-1",
        network=network,
        preprocessing=preprocessing,
        class_names=["a", "b", "c"],
        table=table,
        origin=origin,
    )
    run.close("FINISHED")
    return client, experiment_id


@pytest.mark.faults
def test_a_driver_killed_in_its_upload_goes_on_to_one_version(storage, network, preprocessing, table, origin):
    here = str(Path(__file__).parent)
    driver = subprocess.run([sys.executable, "-W", "ignore", "-c", DRIVER, here, str(storage)])
    assert driver.returncode == -signal.SIGKILL
    client, experiment_id = job(storage, network, preprocessing, table, origin)
    statuses = sorted(run.info.status for run in client.search_runs([experiment_id]))
    assert statuses == ["FINISHED", "FINISHED", "KILLED"]
    assert len(client.search_model_versions("name = 'net'")) == 1
    assert [str(model.status) for model in client.search_logged_models([experiment_id])] == ["READY"]
