"""A store on this machine, and the two kinds of places that a job may be kept in."""

import pytest

from pipeline.storage import StoragePath
from tests.s3_server import BUCKET


@pytest.fixture
def prefix(request):
    """A location in the store of this test alone."""
    return f"s3://{BUCKET}/{request.node.name.translate(str.maketrans('[]', '--'))}"


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path, s3, prefix):
    """A folder that is not there yet, on a disk and in a store."""
    location = str(tmp_path / "job") if request.param == "disk" else prefix
    return StoragePath.parse(location, s3)
