"""One real Ray and one real S3 server for the whole session; quiet third parties."""

import os
import subprocess

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("MLFLOW_TRACKING_URI", None)

import pytest


def pytest_collection_modifyitems(items):
    """Mark what needs the session's Ray, so that it can be run apart from tests that share the cores."""
    for item in items:
        if "ray_cluster" in item.fixturenames:
            item.add_marker("ray")


@pytest.fixture
def invoke(capfd):
    """Runs a verb in this process; what other libraries print is told as well."""
    from typer.testing import CliRunner

    from pipeline.cli import app

    def run(*arguments):
        capfd.readouterr()
        ended = CliRunner().invoke(app, arguments)
        printed, errors = capfd.readouterr()
        return subprocess.CompletedProcess(
            arguments, ended.exit_code, printed + ended.stdout, errors + ended.stderr
        )

    return run


@pytest.fixture(scope="session")
def ray_cluster():
    """Embedded Ray as a job starts it; started once, because that costs seconds."""
    from cluster.runtime import connected

    with connected():
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """File of a data plan for the built-in digits, with a fifth of them held out."""
    from tests.training.training_under_test import save_data

    return save_data(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server on this machine, one for all tests."""
    from tests.s3_server import running

    with running() as server:
        yield server


@pytest.fixture
def store(s3_server):
    """The server without faults; what a test puts there lies below a prefix of its own."""
    s3_server.faults.clear()
    yield s3_server
    s3_server.faults.clear()


@pytest.fixture
def s3(store):
    """The settings that reach the server."""
    from pipeline.config import S3Config

    return S3Config(endpoint_url=store.url, region="us-east-1")
