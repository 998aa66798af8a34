"""A team's stores: PostgreSQL, an S3 API and `mlflow server`, with jobs during which the server dies."""

import signal
import subprocess
import sys

import pytest
import yaml
from mlflow.tracking import MlflowClient

from tests.production_servers import (
    TrackingServer,
    create_database,
    running_postgres,
    running_s3,
    server_environment,
    why_no_postgres,
)

pytestmark = pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))

JOB = {
    "data": {
        "train": "builtin:digits",
        "validation_fraction": 0.2,
        "image_size": 8,
        "crop": "none",
        "flip_probability": 0.0,
    },
    "backbone": {
        "name": "resnet18",
        "small_images": True,
        "kwargs": {"layers": [3, 3, 1, 1], "channels": [8, 8, 8, 8]},
    },
    "training": {"epochs": 6, "batch_size": 64, "workers": 1},
}
SEARCH = {"space": "resnet", "trials": 2, "epochs": 2}


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def object_store():
    with running_s3("mlflow") as url:
        yield url


@pytest.fixture(scope="module")
def shared_server(postgres, object_store, tmp_path_factory):
    """Artifacts go through the server: clients know nothing of the object store."""
    database = create_database(postgres, "tracking")
    environment = {
        **server_environment(database, object_store),
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow/proxied",
    }
    tracking = TrackingServer(environment, log=tmp_path_factory.mktemp("server") / "log")
    try:
        tracking.start()
        yield tracking
    finally:
        tracking.kill()


@pytest.fixture
def server(shared_server):
    """The server, which a test may leave killed."""
    yield shared_server
    shared_server.kill()
    shared_server.start()


@pytest.fixture
def start(tmp_path, server):
    """Starts `skipline run` on a job of that name; the process is gone when the test is."""
    processes = []

    def run(name, **changes):
        job = {**JOB, **changes, "name": name, "registry": {"model": name, "tracking_uri": server.url}}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        processes.append(_skipline("run", "job.yaml", cwd=tmp_path))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def _skipline(*arguments, cwd, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def _read_until(process, text):
    """Return what a process prints up to the line that starts so."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(text):
            return "".join(lines)
    return pytest.fail(f"{text!r} was never printed:\n{''.join(lines)}")


def _told(server, name, epochs_of_trials=()):
    """Assert that a job's runs have ended and hold every epoch once, and that it has one version."""
    client = MlflowClient(server.url)
    (version,) = client.search_model_versions(f"name = '{name}'")
    parent = client.get_run(version.run_id)
    nested = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{version.run_id}'"
    )
    assert [run.info.status for run in (parent, *nested)] == ["FINISHED"] * (1 + len(nested))
    steps = {
        run.info.run_name: [step.step for step in client.get_metric_history(run.info.run_id, "full/top1")]
        for run in (parent, *nested)
    }
    assert steps == {name: [1, 2, 3, 4, 5, 6], **dict(epochs_of_trials)}


@pytest.mark.ray
def test_a_server_killed_in_a_training_is_told_everything_once_when_it_is_back(start, server):
    job = start("outage")
    _read_until(job, "epoch 2/6")
    server.kill()
    printed = _read_until(job, "epoch 5/6")
    server.start()
    rest, _ = job.communicate(timeout=300)
    printed += rest
    assert job.returncode == 0, printed
    assert printed.count("the tracking store does not answer (ConnectionRefusedError") == 1
    assert printed.count("the tracking store answers again; everything was delivered") == 1
    assert "registered models:/outage/1" in printed
    _told(server, "outage")


@pytest.mark.ray
def test_a_job_killed_in_an_outage_is_told_of_in_full_by_the_same_command(start, server):
    job = start("killed-too", search=SEARCH)
    _read_until(job, "trial 1/2  epoch 1")
    server.kill()
    _read_until(job, "epoch 2/6")
    job.send_signal(signal.SIGKILL)
    job.wait()
    server.start()
    again = start("killed-too", search=SEARCH)
    printed, _ = again.communicate(timeout=300)
    assert again.returncode == 0, printed
    assert "trial" not in printed.partition("training")[0]
    assert "epoch 1/6" not in printed
    _told(server, "killed-too", {"trial 1": [1, 2], "trial 2": [1, 2]})
