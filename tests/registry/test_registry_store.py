"""A store that cannot be used is found before anything starts."""

import os
import socket
import subprocess
import sys
import time

import mlflow
import pytest

from pipeline.errors import RequestError
from pipeline.registry import store
from pipeline.registry.masking import mask_credentials
from pipeline.registry.store import (
    connect,
    connect_existing,
    current_store,
    default_artifact_root,
    embedded_uri,
    ensure_experiment,
)
from pipeline.storage import StoragePath


@pytest.fixture
def loopback():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def test_a_server_that_is_not_there_is_refused_within_its_time(loopback):
    uri = f"http://user:secret@127.0.0.1:{loopback.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(
        RequestError, match=r"http://\*\*\*@127.0.0.1:\d+ did not .*start the server"
    ) as caught:
        connect(uri)
    assert time.monotonic() - start < 15
    assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_is_refused_within_its_time(loopback):
    loopback.listen()
    start = time.monotonic()
    with pytest.raises(RequestError, match=r"did not \(no answer within 2 s\)"):
        connect(f"http://127.0.0.1:{loopback.getsockname()[1]}", timeout_s=2)
    assert time.monotonic() - start < 15


def test_a_preflight_leaves_the_environment_as_it_was(loopback, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    loopback.listen()
    with pytest.raises(RequestError, match="no answer within"):
        connect(f"http://127.0.0.1:{loopback.getsockname()[1]}", timeout_s=0.1)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.parametrize(
    "uri", ["postgresql+nodriver://u:secret@127.0.0.1/x", "ftp://u:secret@host/x", "nonsense:"]
)
def test_a_uri_that_cannot_be_used_is_refused(uri):
    with pytest.raises(RequestError, match="the tracking store must answer before a job starts") as caught:
        connect(uri)
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="see that the folder can be written to"):
        connect(embedded_uri(tmp_path / "file"))


def test_a_damaged_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(RequestError, match="file is not a database"):
        connect(embedded_uri(tmp_path))


def test_reading_creates_no_store(tmp_path):
    with pytest.raises(RequestError, match=r"there is no file .*mlflow\.db"):
        connect_existing(embedded_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_creation_is_cut_short_is_not_left_behind(tmp_path, monkeypatch):
    def cut_short(path):
        path.write_text("half a database")
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "_migrate", cut_short)
    with pytest.raises(RequestError, match="No space left on device"):
        connect(embedded_uri(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]


def test_two_processes_may_open_a_fresh_store_at_once(tmp_path):
    code = (
        "import sys, pathlib; from pipeline.registry.store import connect, embedded_uri; "
        "connect(embedded_uri(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "new")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 2


def test_an_experiment_is_created_once(client, experiment_id, storage):
    assert ensure_experiment(client, "tests", artifact_root=None) == experiment_id
    location = client.get_experiment(experiment_id).artifact_location
    assert location == (storage / "mlflow-artifacts").as_uri()


def test_a_deleted_experiment_is_not_restored(client, experiment_id):
    client.delete_experiment(experiment_id)
    with pytest.raises(RequestError, match=f"mlflow experiments restore --experiment-id {experiment_id}"):
        ensure_experiment(client, "tests", artifact_root=None)


def test_the_process_wide_store_is_put_back(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    with current_store(client):
        assert mlflow.get_tracking_uri() == client.tracking_uri
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere"
    mlflow.set_tracking_uri(None)


def test_only_a_database_needs_a_place_for_files(tmp_path):
    storage = StoragePath.local(tmp_path)
    root = default_artifact_root(embedded_uri(tmp_path), storage=storage)
    assert root.uri == (tmp_path / "mlflow-artifacts").as_uri()
    assert default_artifact_root("postgresql+psycopg://h/db", storage=storage) is not None
    assert default_artifact_root("https://host", storage=storage) is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:p@host:1/a failed", "http://***@host:1/a failed"),
        (
            "at postgresql://u:p%40@h/db?sslpassword=x&a=1",
            "at postgresql://***@h/db?sslpassword=***&a=1",
        ),
        ("models:/net@champion", "models:/net@champion"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_credentials_are_masked(text, masked):
    assert mask_credentials(text) == masked
