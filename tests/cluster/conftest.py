"""One head node for all tests of a cluster, as an administrator starts it."""

import pytest

from tests.ray_head import running_head


@pytest.fixture(scope="package")
def head():
    """A head node with two CPUs that asks for a token."""
    with running_head(num_cpus=2) as node:
        yield node
