"""One real Ray for the whole session; quiet third parties."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest


def pytest_collection_modifyitems(items):
    """Mark what needs the session's Ray, so that it can be run apart from tests that share the cores."""
    for item in items:
        if "ray_cluster" in item.fixturenames:
            item.add_marker("ray")


@pytest.fixture(scope="session")
def ray_cluster():
    """Embedded Ray as a job starts it; started once, because that costs seconds."""
    from cluster.runtime import connected

    with connected():
        yield
