"""One real Ray for the whole session; quiet third parties."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """Embedded Ray as a job starts it; started once, because that costs seconds."""
    from cluster.runtime import connected

    with connected():
        yield
