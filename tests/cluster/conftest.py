"""A head node for the tests of a file, as an administrator starts it; it ends before another Ray starts."""

import pytest

from tests.ray_head import running_head


@pytest.fixture(scope="module")
def head():
    """A head node with two CPUs that asks for a token."""
    with running_head(num_cpus=2) as node:
        yield node
