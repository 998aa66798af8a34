"""A team's stores: PostgreSQL, an S3 API and `mlflow server`, with jobs during which the server dies."""

import json
import signal
import subprocess
import sys

import pytest
import yaml
from mlflow.tracking import MlflowClient
from PIL import Image

from pipeline.cli import app
from tests.digits_job import JOB
from tests.production_servers import (
    TrackingServer,
    create_database,
    running_postgres,
    running_s3,
    server_environment,
    why_no_postgres,
)

pytestmark = pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))
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
        run.info.run_name.partition(" · ")[0]: [
            step.step for step in client.get_metric_history(run.info.run_id, "full/top1")
        ]
        for run in (parent, *nested)
    }
    assert steps == {name: [1, 2, 3, 4, 5, 6], **dict(epochs_of_trials)}


def _finish(processes):
    """Return exit code and output of processes that run at the same time."""
    printed = [process.communicate(timeout=200)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, printed, strict=True)]


def _registering(server, *keys_and_accuracies):
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "tests.integration.registering_under_test"),
            *(server.url, *keys_and_accuracies),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_registered_model_lives_its_whole_life_in_these_stores(shared_server, tmp_path):
    """Register and promote by four at once, list, predict, roll back: over REST, files through the server."""
    uri = shared_server.url
    assert _finish([_registering(shared_server, "job-1=0.91")]) == [(0, "models:/raced/1\n")]
    MlflowClient(uri).delete_model_version("raced", "1")  # as if killed between upload and version
    outcomes = _finish([_registering(shared_server, "job-1=0.91") for _ in range(4)])
    (version,) = MlflowClient(uri).search_model_versions("name = 'raced'")
    assert outcomes == [(0, f"models:/raced/{version.version}\n")] * 4

    ((code, printed),) = _finish([_registering(shared_server, "job-2=0.97", "job-3=0.93", "job-4=0.95")])
    assert code == 0, printed
    best, *_ = printed.splitlines()
    uris = [row["uri"] for row in _json("models", server=uri, cwd=tmp_path)]
    assert len(uris) == 4
    assert best in uris

    promoters = [
        _skipline("promote", version_uri, "--tracking-uri", uri, cwd=tmp_path) for version_uri in uris
    ]
    outcomes = _finish(promoters)
    assert {code for code, _ in outcomes} <= {0, 1}, outcomes
    aliases = {row["uri"]: row["aliases"] for row in _json("models", server=uri, cwd=tmp_path)}
    assert aliases[best] == ["champion"]

    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    answer = _json(
        "predict", "models:/raced@champion", "red.png", "--profile", "TTFF", server=uri, cwd=tmp_path
    )
    assert answer["profile"] == "TTFF"
    ((code, printed),) = _finish(
        [_skipline("rollback", "raced", "--reason", "it drifts", "--tracking-uri", uri, cwd=tmp_path)]
    )
    assert (code, f"{best} was taken back" in printed) == (0, True), printed


def _json(*arguments, server, cwd):
    """Return what a verb prints as JSON."""
    process = _skipline(*arguments, "--json", "--tracking-uri", server, cwd=cwd)
    ((code, printed),) = _finish([process])
    assert code == 0, printed
    return json.loads(printed)


@pytest.fixture(scope="module")
def private_server(postgres, object_store, tmp_path_factory):
    """Asks for a password, and leaves files to the clients: both reach the object store themselves."""
    folder = tmp_path_factory.mktemp("private")
    (folder / "auth.ini").write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        "admin_username = admin\n"
    )
    environment = {
        **server_environment(create_database(postgres, "private"), object_store),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://mlflow/direct",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "any long text that stays the same",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "correct-horse-battery",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
    }
    options = ("--app-name", "basic-auth", "--no-serve-artifacts")
    tracking = TrackingServer(environment, log=folder / "log", options=options)
    try:
        tracking.start()
        yield tracking
    finally:
        tracking.kill()


@pytest.fixture
def environment(private_server, object_store, monkeypatch, tmp_path):
    """What a client of the private server sets."""
    values = {
        "MLFLOW_TRACKING_URI": private_server.url,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
        "MLFLOW_S3_ENDPOINT_URL": object_store,
        "AWS_ENDPOINT_URL": object_store,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def _consult(capfd, *arguments):
    """Return the doctor's exit code and its findings by check; it writes to the real output."""
    code = app(["doctor", "--json", *arguments], standalone_mode=False)
    return code, {one["check"]: one for one in json.loads(capfd.readouterr().out)}


@pytest.mark.usefixtures("environment")
def test_the_doctor_passes_stores_that_work_and_leaves_no_model_behind(capfd, private_server):
    code, findings = _consult(capfd, "--storage", "s3://mlflow/jobs")
    skipped = {name for name, one in findings.items() if one["verdict"] == "skipped"}
    assert (code or 0, skipped) == (0, {"images from nodes", "ways between nodes"}), findings
    assert "directly, in mlflow" in findings["files of runs"]["detail"]
    client = MlflowClient(private_server.url)
    assert client.search_registered_models() == []
    experiment = client.get_experiment_by_name("skipline-doctor-admin")
    assert client.search_runs([experiment.experiment_id]) == []


@pytest.mark.parametrize(
    ("changed", "check", "detail", "fix"),
    [
        (
            {"MLFLOW_TRACKING_PASSWORD": "wrong"},
            "tracking store",
            "answers 401: it asks for a user name and password, and those of the environment were refused",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
            "tracking store",
            "does not answer (ConnectionRefusedError",
            "start the server, or correct",
        ),
        (
            {"RAY_ADDRESS": "127.0.0.1:1"},
            "Ray",
            "nobody answers at RAY_ADDRESS=127.0.0.1:1",
            "start the head node",
        ),
    ],
)
def test_the_doctor_names_the_fix_of_what_the_environment_gets_wrong(
    environment, capfd, changed, check, detail, fix
):
    for name, value in changed.items():
        environment.setenv(name, value)
    code, findings = _consult(capfd)
    assert (code, findings[check]["verdict"]) == (2, "failed")
    assert detail in findings[check]["detail"]
    assert fix in findings[check]["fix"]


def test_the_doctor_says_that_a_client_of_direct_files_needs_credentials(environment, tmp_path):
    environment.delenv("AWS_ACCESS_KEY_ID")
    process = _skipline("doctor", "--json", cwd=tmp_path)  # MLflow keeps clients of a store in its process
    ((code, printed),) = _finish([process])
    (finding,) = [one for one in json.loads(printed) if one["check"] == "files of runs"]
    assert (code, finding["verdict"]) == (2, "failed")
    assert "must be found by the standard chain" in finding["detail"]
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in finding["fix"]


def test_the_doctor_gives_the_allowed_hosts_that_let_a_name_in(environment, capfd, private_server):
    environment.setenv("MLFLOW_TRACKING_URI", f"http://localhost:{private_server.port}")
    code, findings = _consult(capfd)
    assert (code, findings["tracking store"]["verdict"]) == (2, "failed")
    assert f"--allowed-hosts 'localhost:{private_server.port}'" in findings["tracking store"]["fix"]


@pytest.mark.usefixtures("environment")
def test_the_doctor_finds_a_missing_bucket_and_still_looks_at_the_rest(capfd):
    code, findings = _consult(capfd, "--storage", "s3://no-such-bucket/jobs")
    assert code == 2
    assert "has no such bucket" in findings["storage"]["detail"]
    assert findings["registered models"]["verdict"] == "passed"


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.ray
def test_a_server_killed_in_a_training_is_told_everything_once_when_it_is_back(start, server, tmp_path):
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
    options = ("models:/outage/1", "--tracking-uri", server.url)
    verify = _skipline("verify", *options, "--data", "builtin:digits", cwd=tmp_path)
    ((code, printed),) = _finish([verify])
    assert (code, "the registered table's own" in printed) == (0, True), printed
    pulled = _json(
        "pull", "models:/outage/1", "--profile", "base", "--output", "base", server=server.url, cwd=tmp_path
    )
    assert pulled["difference_from_torch"].keys() == {"TT"}
    assert (tmp_path / "base" / "load.py").exists()


@pytest.mark.faults
@pytest.mark.slow
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
    _told(server, "killed-too", {"trial 01": [1, 2], "trial 02": [1, 2]})
