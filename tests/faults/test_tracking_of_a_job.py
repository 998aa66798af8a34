"""MLflow's server is killed while a job trains, and comes back."""

import pytest
from mlflow import MlflowClient

from tests.faults.commands import write_job
from tests.production_servers import TrackingServer

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]


@pytest.fixture
def server(tmp_path):
    """An MLflow server on SQLite."""
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    tracking = TrackingServer(environment, log=tmp_path / "server.log")
    tracking.start()
    yield tracking
    tracking.kill()


def test_a_server_killed_in_a_training_is_told_every_epoch_once_when_it_is_back(start, server, tmp_path):
    write_job(tmp_path, training={"epochs": 20}, registry={"tracking_uri": server.url})
    command = start("train", "job.yaml")
    command.until("epoch 2/20")
    server.kill()
    command.until("the tracking store does not answer (ConnectionRefusedError")
    command.until("epoch ")
    server.start()
    assert command.end() == 0
    assert command.printed.count("the tracking store answers again; everything was delivered") == 1
    client = MlflowClient(server.url)
    (run,) = client.search_runs([client.get_experiment_by_name("skipline").experiment_id])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "full/top1")]
    assert steps == list(range(1, 21))
