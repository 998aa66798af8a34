"""Three hosts with a cluster, on which nodes vanish while a submitted job trains: what users read and keep.

Every test prints its figures; `pytest -s` shows them.
"""

import ast
import re
import subprocess
import sys
import threading
import time

import pytest
import yaml
from mlflow.tracking import MlflowClient

from tests.digits_job import JOB
from tests.hosts import running_hosts, why_no_hosts

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]

EPOCHS = 16
DEADLINE_S = 15
DASHBOARD = "http://127.0.0.1:8265"
S3_PORT, BUCKET = 9000, "runs"
S3 = """
import sys, boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address=sys.argv[1], port=int(sys.argv[2]), verbose=False)
server.start()
boto3.client("s3", endpoint_url=f"http://{sys.argv[1]}:{sys.argv[2]}").create_bucket(Bucket=sys.argv[3])
print("there", flush=True)
server._thread.join()
"""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "very-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Cluster:
    """A head, which serves an S3 API as well, and two workers of one CPU each."""

    def __init__(self, hosts):
        self.head, *self.workers = hosts
        for host in hosts:
            host.environment.update(CREDENTIALS)
        self.s3 = self.head.start(
            *(sys.executable, "-W", "ignore", "-c", S3, self.head.address, str(S3_PORT), BUCKET),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.s3.stdout.readline() == "there\n"
        self.start()

    def start(self):
        """Start all nodes."""
        self.head.start_node("head")
        for host in self.workers:
            self.start_worker(host)

    def start_worker(self, host):
        host.start_node("worker", self.head.address, "--num-cpus=1")

    def drain(self, host, *, deadline_s):
        """Let Ray know that a host will go, as an autoscaler does at a spot instance's notice."""
        address = f"{self.head.address}:6379"
        script = f"import ray; ray.init('{address}', logging_level=50); print(ray.nodes())"
        nodes = ast.literal_eval(self.head.run(sys.executable, "-c", script).splitlines()[-1])
        (node,) = [one["NodeID"] for one in nodes if one["NodeManagerAddress"] == host.address]
        self.head.run(
            *("ray", "drain-node", "--address", address, "--node-id", node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"),
            *("--deadline-remaining-seconds", str(deadline_s)),
        )


class Submission:
    """`skipline submit --wait` on the head, whose lines come with the time at which they were printed."""

    def __init__(self, cluster, folder, name, **training):
        self.folder, self.name = folder / name, name
        self.folder.mkdir(exist_ok=True)
        job = {
            **JOB,
            "data": {**JOB["data"], "image_size": 16},
            "name": name,
            "training": {**JOB["training"], "epochs": EPOCHS, "workers": 2, **training},
            "storage": f"s3://{BUCKET}/jobs",
            "s3": {"endpoint_url": f"http://{cluster.head.address}:{S3_PORT}"},
            "registry": {"model": name, "tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        }
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        self.lines = []
        self.process = cluster.head.start(
            *(sys.executable, "-m", "pipeline", "submit", "job.yaml", "--wait", "--address", DASHBOARD),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    def wait_for(self, pattern, *, after_s=0.0, timeout_s=240):
        """Return when a line was first printed that holds a pattern, and the match."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for printed_s, line in list(self.lines):
                if printed_s > after_s and (match := re.search(pattern, line)):
                    return printed_s, match
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.1)
        return pytest.fail(f"{pattern!r} was not printed:\n{self.text}")

    def end(self, timeout_s=300):
        """Wait for the end; returns the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    @property
    def text(self):
        return "\n".join(line for _, line in self.lines)

    @property
    def epochs_told(self):
        return [int(epoch) for epoch in re.findall(r"^epoch (\d+)/\d+  full", self.text, re.MULTILINE)]

    @property
    def accuracy(self):
        """Top-1 of `full` after the last epoch."""
        _, match = self.wait_for(rf"epoch {EPOCHS}/{EPOCHS}  full (\S+)")
        return float(match[1])

    def assert_whole(self, folder, *, epochs=EPOCHS):
        """Assert that the job registered one version, and MLflow holds every epoch once and no open run."""
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (version,) = client.search_model_versions(f"name = '{self.name}'")
        assert client.get_run(version.run_id).info.status == "FINISHED"
        history = client.get_metric_history(version.run_id, "full/top1")
        assert [metric.step for metric in history] == list(range(1, epochs + 1))


def show(figures):
    """Say what was measured to whoever runs pytest with -s."""
    sys.stdout.write(f"\n{figures}\n")


@pytest.fixture
def cluster():
    with running_hosts(3) as hosts:
        yield Cluster(hosts)


@pytest.mark.timeout(900)
def test_a_training_goes_on_without_a_host_that_is_cut_off(cluster, tmp_path):
    calm = Submission(cluster, tmp_path, "calm", min_workers=1)
    assert calm.end() == 0, calm.text
    calm.assert_whole(tmp_path)

    job = Submission(cluster, tmp_path, "cut", min_workers=1)
    job.wait_for(r"epoch 5/")
    cut_s, lost = time.monotonic(), cluster.workers[1]
    lost.pull_cable()
    resumed_s, match = job.wait_for(r"goes on after epoch (\d+), on 1 worker", after_s=cut_s)
    kept = int(match[1])
    again_s, _ = job.wait_for(rf"epoch {kept + 1}/", after_s=resumed_s)
    assert job.end() == 0, job.text
    job.assert_whole(tmp_path)
    show(
        f"cut within epoch {kept + 1}: it begins again after {resumed_s - cut_s:.0f} s and ends after "
        f"{again_s - cut_s:.0f} s; top-1 {job.accuracy:.4f}, undisturbed {calm.accuracy:.4f}"
    )
    assert kept >= 5
    assert job.epochs_told == list(range(1, EPOCHS + 1))
    assert job.accuracy == pytest.approx(calm.accuracy, abs=0.01)


@pytest.mark.timeout(600)
def test_a_training_takes_in_a_host_that_comes_later(cluster, tmp_path):
    late = cluster.workers[1]
    late.kill_node()
    job = Submission(cluster, tmp_path, "growing", epochs=300, min_workers=1)
    job.wait_for(r"epoch 2/")
    started_s = time.monotonic()
    cluster.start_worker(late)
    grown_s, match = job.wait_for(r"goes on after epoch (\d+), on 2 worker", after_s=started_s)
    job.wait_for(rf"epoch {int(match[1]) + 1}/", after_s=grown_s)
    show(f"a host more: training on it {grown_s - started_s:.0f} s after its start was asked for")
    told = job.epochs_told
    assert told == list(range(1, len(told) + 1))


@pytest.mark.timeout(600)
def test_a_drained_host_is_left_with_a_checkpoint_of_the_running_epoch(cluster, tmp_path):
    # Epochs of ten seconds and more.
    job = Submission(cluster, tmp_path, "drained", epochs=5, batch_size=2, lr=0.005, min_workers=1)
    noticed_s, _ = job.wait_for(r"epoch 1/5")
    cluster.drain(cluster.workers[1], deadline_s=DEADLINE_S)
    resumed_s, match = job.wait_for(r"goes on after epoch (\d+) and (\d+) updates, on 1 worker")
    assert job.end() == 0, job.text
    job.assert_whole(tmp_path, epochs=5)
    show(
        f"drained with a deadline of {DEADLINE_S} s: training again after {resumed_s - noticed_s:.0f} s, "
        f"after epoch {match[1]} and {match[2]} updates"
    )


@pytest.mark.timeout(600)
def test_a_job_waits_for_a_host_without_which_it_cannot_train(cluster, tmp_path):
    job = Submission(cluster, tmp_path, "waiting")
    job.wait_for(r"epoch 3/")
    killed_s, lost = time.monotonic(), cluster.workers[1]
    lost.kill_node()
    waiting_s, _ = job.wait_for(r"training waits: 2 worker\(s\) of 1 CPU\(s\) and 0 GPU\(s\) each need room")
    started_s = time.monotonic()
    cluster.start_worker(lost)
    resumed_s, match = job.wait_for(r"goes on after epoch (\d+), on 2 worker", after_s=started_s)
    assert job.end() == 0, job.text
    job.assert_whole(tmp_path)
    show(
        f"node killed: said after {waiting_s - killed_s:.0f} s; training again {resumed_s - started_s:.0f} s "
        f"after the node's start was asked for, from epoch {match[1]}"
    )
    assert job.epochs_told == list(range(1, EPOCHS + 1))


@pytest.mark.timeout(600)
def test_a_job_submitted_again_to_a_restarted_head_goes_on(cluster, tmp_path):
    job = Submission(cluster, tmp_path, "again")
    job.wait_for(r"epoch 5/")
    killed_s = time.monotonic()
    for host in (cluster.head, *cluster.workers):
        host.kill_node()
    cluster.start()
    started_s = time.monotonic()
    assert job.end() != 0
    assert "skipline submit" in job.text.splitlines()[-1]
    again = Submission(cluster, tmp_path, "again")
    resumed_s, match = again.wait_for(r"goes on after epoch (\d+), on 2 worker")
    assert again.end() == 0, again.text
    again.assert_whole(tmp_path)
    show(
        f"head killed and started again after {started_s - killed_s:.0f} s: training again "
        f"{resumed_s - started_s:.0f} s later, from epoch {match[1]}"
    )
    assert int(match[1]) >= 4
    assert again.epochs_told == list(range(int(match[1]) + 1, EPOCHS + 1))
