"""Jobs on a real head node that asks for a token: submitted, followed, left alone, stopped, gone on with."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from mlflow.tracking import MlflowClient

from pipeline.registry.store import embedded_uri
from tests.digits_job import JOB

pytestmark = pytest.mark.ray

EPOCHS = 60
"""Of a job that is still at work when it is asked to stop."""


@pytest.fixture
def folder(tmp_path):
    """A folder to submit from; storage is one that all nodes see."""
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


@pytest.fixture
def skipline(head, folder):
    """Starts a verb in the folder."""
    processes = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments, "--address", head.url],
            cwd=folder,
            env={**os.environ, **head.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def write_job(folder, name, **changes):
    job = {
        **JOB,
        "name": name,
        "registry": {"model": name},
        "storage": str(folder.parent / "runs"),
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def ended(process, timeout=240):
    printed, _ = process.communicate(timeout=timeout)
    return process.returncode, printed


def read_until(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    return pytest.fail(f"{text!r} was never printed:\n{''.join(lines)}")


def submissions(skipline, name):
    code, printed = ended(skipline("status", name, "--json"))
    assert code == 0, printed
    return {one["id"]: one for one in json.loads(printed)}


def test_a_job_is_left_alone_stopped_and_gone_on_with(skipline, folder):
    write_job(folder, "digits", training={**JOB["training"], "epochs": EPOCHS})
    waiting = skipline("submit", "job.yaml", "--wait", "--label", "team=vision")
    printed = read_until(waiting, f"epoch 1/{EPOCHS}")
    assert "sending 1 files" in printed
    assert "digits-1: PENDING" in printed or "digits-1: RUNNING" in printed
    waiting.send_signal(signal.SIGINT)
    code, rest = ended(waiting)
    assert code == 1
    assert "digits-1 goes on; `skipline logs -f digits" in rest

    code, printed = ended(skipline("submit", "job.yaml", "--json"))
    told, _, answer = printed.partition("{")
    assert (code, "digits-1 runs already; nothing is sent" in told) == (0, True), printed
    assert json.loads("{" + answer)["status"] == "RUNNING"
    code, printed = ended(skipline("stop", "digits", "--json"))
    assert (code, json.loads(printed)["status"]) == (0, "STOPPED"), printed
    client = MlflowClient(embedded_uri(folder.parent / "runs"))
    experiment = client.get_experiment_by_name("skipline").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "KILLED"
    known = submissions(skipline, "digits")
    assert (known["digits-1"]["status"], known["digits-1"]["labels"]) == ("STOPPED", {"team": "vision"})

    code, printed = ended(skipline("submit", "job.yaml", "--wait"))
    assert code == 0, printed
    assert f"epoch 1/{EPOCHS}" not in printed.partition("digits-2")[2]
    assert "registered models:/digits/1" in printed
    assert submissions(skipline, "digits")["digits-2"]["exit_code"] == 0

    (version,) = client.search_model_versions("name = 'digits'")
    (run,) = client.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (version.run_id, "FINISHED")
    history = client.get_metric_history(version.run_id, "full/top1")
    assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))


def test_waiting_ends_with_the_exit_code_of_the_job(skipline, folder):
    write_job(folder, "no-data", data={**JOB["data"], "train": "/no/such/images"})
    code, printed = ended(skipline("submit", "job.yaml", "--wait"))
    assert code == 2, printed
    assert "/no/such/images" in printed.partition("no-data-1")[2]
    code, printed = ended(skipline("logs", "-f", "no-data"))
    assert (code, "/no/such/images" in printed) == (2, True), printed


def test_what_can_never_be_placed_is_refused_with_the_arithmetic(skipline, folder):
    write_job(folder, "large", training={**JOB["training"], "workers": 4, "use_gpu": True})
    start_s = time.monotonic()
    code, printed = ended(skipline("submit", "job.yaml"))
    assert code == 2, printed
    assert "which needs 4 CPUs and 4 GPUs; there is 1 node(s) with 2 CPUs and 0 GPUs, room for 0" in printed
    assert time.monotonic() - start_s < 60  # the fault would be to wait for a place
    code, printed = ended(skipline("status", "large"))
    assert (code, "got 'large'" in printed) == (2, True)


@pytest.mark.parametrize("token", ["", "wrong" * 10])
def test_without_the_token_nobody_gets_in(skipline, token):
    code, printed = ended(
        skipline("jobs", RAY_AUTH_TOKEN=token, RAY_AUTH_MODE="token" if token else "disabled")
    )
    assert code == 2, printed
    assert "asks for a token, and RAY_AUTH_TOKEN" in printed
