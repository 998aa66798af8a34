"""A cluster whose autoscaler may add nodes: what has no room yet is no mistake."""

import pytest
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2

from cluster.runtime import Capacity, capacity, growth
from pipeline.config import load_job
from pipeline.preflight import find_problems

pytestmark = pytest.mark.ray


@pytest.fixture
def growing(head, monkeypatch):
    """The head node, told by an autoscaler that three nodes of eight CPUs may join."""
    for name, value in {**head.environment, "RAY_ADDRESS": head.address}.items():
        monkeypatch.setenv(name, value)
    config = autoscaler_pb2.ClusterConfig()
    group = config.node_group_configs.add(name="workers", max_count=3)
    group.resources["CPU"] = 8
    client = GcsClient(address=head.address)
    client.report_cluster_config(config.SerializeToString())
    yield
    client.report_cluster_config(autoscaler_pb2.ClusterConfig().SerializeToString())


def problems(tmp_path, workers):
    settings = [f"training.workers={workers}", f"training.batch_size={4 * workers}", f"storage={tmp_path}"]
    return find_problems(load_job("quickstart", settings))


@pytest.mark.usefixtures("growing")
def test_what_fits_on_the_nodes_that_may_join_is_let_through(tmp_path):
    assert capacity() == Capacity(((2, 0),))
    assert growth() == Capacity(((8, 0),) * 3)
    assert problems(tmp_path, workers=24) == []
    (problem,) = problems(tmp_path, workers=25)
    assert "got 25 workers" in problem


def test_there_is_no_growth_without_an_autoscaler(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert growth() == Capacity(())
