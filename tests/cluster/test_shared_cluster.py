"""Two jobs at once on one cluster: each gets through, and neither leaves anything behind."""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml
from mlflow.tracking import MlflowClient

from pipeline.registry.store import embedded_uri
from tests.digits_job import JOB

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 3
OF_THE_CLUSTER = "_AutoscalingCoordinatorActor"
"""Ray's own, one a cluster."""
END_S = 60
LIVING = """
import json, ray
from ray.util.state import list_actors, list_placement_groups
ray.init(logging_level=50)
actors = list_actors(filters=[("state", "!=", "DEAD")], limit=10_000)
groups = list_placement_groups(filters=[("state", "!=", "REMOVED")], limit=10_000)
print(json.dumps([one.class_name for one in actors] + [one.placement_group_id for one in groups]))
"""


def start(head, folder, name):
    """Start `skipline run` on the cluster, for a job whose training takes all of its CPUs."""
    folder.mkdir()
    job = {
        **JOB,
        "name": name,
        "training": {**JOB["training"], "epochs": EPOCHS, "workers": 2},
        "search": {"space": "resnet", "trials": 2, "epochs": 1},
        "registry": {"model": name},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "job.yaml"],
        cwd=folder,
        env={**os.environ, **head.environment, "RAY_ADDRESS": head.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_over(head):
    """Return what lives on the cluster when no job does, once Ray has had its time to take it down."""
    deadline_s = time.monotonic() + END_S
    while True:
        found = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", LIVING],
            env={**os.environ, **head.environment, "RAY_ADDRESS": head.address},
            stdout=subprocess.PIPE,
            check=True,
        )
        left = [name for name in json.loads(found.stdout.splitlines()[-1]) if name != OF_THE_CLUSTER]
        if not left or time.monotonic() > deadline_s:
            return left


@pytest.mark.timeout(600)
def test_two_jobs_that_each_need_the_whole_cluster_take_turns(head, tmp_path):
    processes = {name: start(head, tmp_path / name, name) for name in ("left", "right")}
    try:
        for name, process in processes.items():
            printed, _ = process.communicate(timeout=500)
            assert process.returncode == 0, printed
            assert f"registered models:/{name}/1" in printed
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
            process.stdout.close()
    for name in processes:
        client = MlflowClient(embedded_uri(tmp_path / name / "runs"))
        runs = client.search_runs([client.get_experiment_by_name("skipline").experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        (version,) = client.search_model_versions(f"name = '{name}'")
        history = client.get_metric_history(version.run_id, "full/top1")
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
    assert left_over(head) == []
