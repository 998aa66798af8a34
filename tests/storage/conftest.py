"""A store on this machine, and the two kinds of places that a job may be kept in."""

import pytest

from pipeline.config import S3Config
from pipeline.storage import StoragePath
from tests.data.s3_server import BUCKET, running


@pytest.fixture(scope="session")
def s3_server():
    with running() as server:
        yield server


@pytest.fixture
def store(s3_server):
    """The server, without faults at first."""
    s3_server.faults.clear()
    yield s3_server
    s3_server.faults.clear()


@pytest.fixture
def s3(store):
    """How to reach the server."""
    return S3Config(endpoint_url=store.url, region="us-east-1")


@pytest.fixture
def prefix(request):
    """A location in the store of this test alone."""
    return f"s3://{BUCKET}/{request.node.name.translate(str.maketrans('[]', '--'))}"


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path, s3, prefix):
    """A folder that is not there yet, on a disk and in a store."""
    location = str(tmp_path / "job") if request.param == "disk" else prefix
    return StoragePath.parse(location, s3)
