"""What the doctor says of the nodes that workers run on."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from pipeline.config import S3Config
from pipeline.doctor.findings import Doubt, Problem
from pipeline.doctor.nodes import Needs, Nodes, look_around

NEEDS = Needs(("builtin:digits",), "/tmp", S3Config())
GIB = 2**30


@pytest.fixture
def node():
    """This machine, with room."""
    seen = look_around(NEEDS)
    room = {"disk_bytes": 100 * GIB, "shared_bytes": 8 * GIB, "open_files": 65536}
    return replace(seen, name="a", peer_address="10.0.0.1", **room)


def nodes_of(*seen):
    nodes = Nodes(NEEDS)
    nodes.__dict__["seen"] = list(seen)
    return nodes


def test_nodes_that_are_alike_and_have_room_pass(node):
    nodes = nodes_of(node, replace(node, name="b"))
    assert nodes.reached() == "2 node(s) answer: a, b"
    assert nodes.versions().startswith("the same everywhere: Python ")
    assert nodes.clocks().startswith("0 s between this machine")
    assert nodes.data() == "builtin:digits: found from 2 node(s)"
    assert nodes.storage() == "/tmp: works from 2 node(s)"
    assert nodes.peers() == "hosts' names have addresses that others can reach"
    assert nodes.disks() == "100.0 GiB of disk free at least (a)"
    assert nodes.shared_memory() == "8.0 GiB of shared memory free at least (a)"
    assert nodes.open_files() == "65536 open files a process at least (a)"


@pytest.mark.parametrize(
    ("look", "changes", "kind", "detail", "fix"),
    [
        ("clocks", {"skew_s": 40.0}, Doubt, "40 s between this machine's clock and that of node b", "NTP"),
        ("clocks", {"skew_s": 1000.0}, Problem, "S3 refuses requests from 900 s on", "NTP"),
        ("data", {"data_problems": ("no file /d",)}, Problem, "b: no file /d", "every node"),
        ("storage", {"storage_problem": "/r cannot be written"}, Problem, "b: /r cannot be written", "share"),
        ("peers", {"peer_address": "127.0.1.1"}, Doubt, "by the name of b workers", "GLOO_SOCKET_IFNAME"),
        ("disks", {"disk_bytes": 5 * GIB}, Doubt, "5.0 GiB of disk free at least (b)", "TMPDIR"),
        ("disks", {"disk_bytes": GIB // 2}, Problem, "0.5 GiB of disk", "TMPDIR"),
        ("shared_memory", {"shared_bytes": 64 * 2**20}, Doubt, "0.1 GiB of shared memory", "--shm-size"),
        ("open_files", {"open_files": 1024}, Doubt, "1024 open files", "ulimit -n 65536"),
    ],
)
def test_the_worst_node_is_named_with_the_fix(node, look, changes, kind, detail, fix):
    nodes = nodes_of(node, replace(node, name="b", **changes))
    with pytest.raises(Problem) as found:  # noqa: PT011
        getattr(nodes, look)()
    assert type(found.value) is kind
    assert detail in found.value.detail
    assert fix in found.value.fix


def test_other_versions_are_a_problem(node):
    nodes = nodes_of(node, replace(node, name="b", versions={**node.versions, "torch": "1.0"}))
    with pytest.raises(Problem, match=r"b has torch 1\.0 \(here "):
        nodes.versions()


def test_this_machine_is_the_node_where_there_is_no_cluster(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    nodes = Nodes(Needs(("/no/such/images",), str(tmp_path), S3Config()))
    assert nodes.reached().startswith("1 node(s) answer")
    with pytest.raises(Problem, match="/no/such/images"):
        nodes.data()


@pytest.mark.ray
@pytest.mark.parametrize(("images", "code"), [("builtin:digits", 0), ("/no/such/images", 2)])
def test_the_verb_asks_a_process_on_every_node(head, tmp_path, images, code):
    job = {
        "name": "asked",
        "data": {"train": images, "image_size": 8},
        "backbone": {"name": "resnet18", "small_images": True},
        "training": {"epochs": 1, "batch_size": 64},
        "registry": {"model": "asked"},
        "storage": str(tmp_path / "runs"),
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    environment = {**os.environ, **head.environment, "RAY_ADDRESS": head.address}
    process = subprocess.run(
        [sys.executable, "-m", "pipeline", "doctor", "job.yaml", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    findings = {one["check"]: one for one in json.loads(process.stdout)}
    assert process.returncode == code, findings
    assert findings["nodes"]["verdict"] == "passed", findings
    assert findings["versions on nodes"]["verdict"] == "passed"
    assert findings["images from nodes"]["verdict"] == ("passed" if code == 0 else "failed")
