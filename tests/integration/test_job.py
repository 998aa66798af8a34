"""One whole job through two kills, as a user would run it: real Ray, real MLflow, real processes."""

import json
import signal
import subprocess
import sys

import mlflow.pyfunc
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient

from pipeline.config import load_job
from pipeline.evaluation.table import ProfileTable
from pipeline.registry.store import current_store
from pipeline.storage import StoragePath
from pipeline.training.plan import plan_training
from pipeline.training.session import build_validation_loader
from tests import digits_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]  # tests/test_chaos.py kills in every run

JOB = {
    **digits_job.JOB,
    "name": "killed",
    "training": {"epochs": 6, "batch_size": 64, "workers": 2, "weight_decay": 5.0e-4},
    "search": {"space": "resnet", "trials": 3, "epochs": 2},
    "registry": {"model": "killed"},
}


@pytest.fixture
def start(tmp_path):
    """Starts `skipline run` on the job, in its folder; the process is gone when the test is."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))
    processes = []

    def run():
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", "job.yaml"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def _kill_after(process, text):
    """Kill a process as soon as it has printed a line that starts so; returns all lines until then."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(text):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return lines
    pytest.fail(f"{text!r} was never printed:\n{''.join(lines)}")


@pytest.mark.timeout(600)
def test_a_job_killed_twice_goes_on_and_registers_one_version(start, tmp_path):
    _kill_after(start(), "trial 2/3  epoch 1")
    records = tmp_path / "runs" / "killed" / "search" / "records"
    before = {path.name: path.read_text() for path in records.glob("*.json")}
    ended = {name: text for name, text in before.items() if json.loads(text)["outcome"]}
    assert len(ended) == 1

    _kill_after(start(), "epoch 2/6")
    assert {name: (records / name).read_text() for name in ended} == ended
    assert len(list(records.glob("*.json"))) == 3

    last = start()
    printed, _ = last.communicate(timeout=300)
    assert last.returncode == 0, printed
    assert "epoch 1/6" not in printed
    assert "registered models:/killed/1" in printed

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    assert [int(version.version) for version in client.search_model_versions("name='killed'")] == [1]
    runs = client.search_runs([client.get_experiment_by_name("skipline").experiment_id])
    assert len(runs) == 1 + 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    steps = [metric.step for metric in client.get_metric_history(parent.info.run_id, "full/top1")]
    assert steps == [1, 2, 3, 4, 5, 6]

    again = start()
    printed, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "job 'killed' is finished already" in printed
    assert [int(version.version) for version in client.search_model_versions("name='killed'")] == [1]

    table = ProfileTable.from_json((tmp_path / "runs" / "killed" / "profiles.json").read_text())
    assert [result.profile for result in table.results] == ["FF", "FT", "TF", "TT"]
    with current_store(client):
        model = mlflow.pyfunc.load_model("models:/killed/1")
    images = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    assert model.predict(images, params={"profile": "base"}).shape == (4, 10)
    assert reached(model.unwrap_python_model().network, tmp_path) == pytest.approx(
        [result.top1 for result in table.results]
    )


@torch.no_grad()
def reached(network, folder):
    """Return the share of the validation images that a registered network gets right, by profile."""
    plan = plan_training(
        load_job(str(folder / "job.yaml")), StoragePath.local(folder / "runs" / "killed" / "data.npz")
    )
    batches = list(build_validation_loader(plan, rank=0, world_size=1))
    labels = torch.cat([labels for _, labels in batches])

    def share(profile):
        found = torch.cat([network(images, profile).argmax(1) for images, _ in batches])
        return (found == labels).double().mean().item()

    return [share(profile) for profile in ("FF", "FT", "TF", "TT")]
