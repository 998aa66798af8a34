"""What a cluster says that it can become."""

import re

import pytest

from cluster.growth import GROWS_TO, promised_nodes
from cluster.runtime import Capacity, growth
from pipeline.errors import RequestError
from tests.cluster.definitions import CLOUD, KUBERAY, cluster_spec, load, named


@pytest.mark.parametrize("num_nodes", [0, 1, 4])
def test_nodes_are_counted_one_by_one(num_nodes):
    assert promised_nodes(f"nodes={num_nodes},CPU=8,GPU=1") == ((8, 1),) * num_nodes


@pytest.mark.parametrize("said", ["", "4", "nodes=4,CPU=8", "nodes=-1,CPU=8,GPU=1"])
def test_what_cannot_be_read_is_refused(said):
    with pytest.raises(RequestError, match=re.escape(f"must be like nodes=4,CPU=8,GPU=1, got {said!r}")):
        promised_nodes(said)


@pytest.mark.parametrize(("address", "nodes"), [("127.0.0.1:1", ((8, 1),) * 4), ("", ())])
def test_a_cluster_grows_to_what_its_head_is_told(monkeypatch, address, nodes):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv(GROWS_TO, "nodes=4,CPU=8,GPU=1")
    assert growth() == Capacity(nodes)


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_kuberay_says_what_its_workers_are(path):
    head, workers = (cluster_spec(load(path))[key] for key in ("headGroupSpec", "workerGroupSpecs"))
    size = workers[0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    said = f"nodes={workers[0]['maxReplicas']},CPU={size['cpu']},GPU={size['nvidia.com/gpu']}"
    assert {"name": GROWS_TO, "value": said} in head["template"]["spec"]["containers"][0]["env"]


@pytest.mark.parametrize("path", CLOUD, ids=named)
def test_ray_up_says_what_its_workers_are(path):
    config = load(path)
    worker = config["available_node_types"]["gpu"]
    size = worker["resources"]
    said = f"nodes={worker['max_workers']},CPU={size['CPU']},GPU={size['GPU']}"
    assert f"{GROWS_TO}={said};" in config["head_start_ray_commands"][-1]
