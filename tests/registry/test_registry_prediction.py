"""Registered versions as their users meet them: listed, asked about files, behind HTTP."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RequestError
from pipeline.registry.prediction import classify
from pipeline.registry.versions import list_versions

pytestmark = pytest.mark.usefixtures("registered")

START_S = 120
"""A scoring server imports MLflow and torch in several processes."""


@pytest.fixture
def registered(register):
    keys = (("net", "key-1"), ("net", "key-2"), ("other", "key-1"))
    return [register(name=name, key=key) for name, key in keys]


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_versions_are_listed_with_aliases_the_latest_of_each_model_first(client, table):
    client.set_registered_model_alias("net", "champion", "1")
    listed = list_versions(client)
    assert [version.uri for version in listed] == ["models:/net/2", "models:/net/1", "models:/other/1"]
    assert [version.aliases for version in listed] == [("challenger",), ("champion",), ("challenger",)]
    assert {version.table for version in listed} == {table}
    assert listed[1].row()[:3] == ["models:/net/1", "champion", "16"]
    assert json.loads(json.dumps(listed[1].to_dict()))["aliases"] == ["champion"]
    assert [version.uri for version in list_versions(client, "other")] == ["models:/other/1"]


def test_a_model_that_does_not_exist_cannot_be_listed(client):
    with pytest.raises(RequestError, match=r"'nett' does not; did you mean net\?"):
        list_versions(client, "nett")


def test_files_are_classified_by_name_at_the_depth_asked_for(client, pictures):
    answer = classify(client, "models:/net/1", pictures, params={"profile": "base"})
    assert answer.profile == "TTTT"
    assert len(answer.classes) == 3
    assert all(found.name in "abc" and 1 / 3 <= found.probability <= 1 for found in answer.classes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"profile": "TF"}, "'TF' has 2 letters, resnet18 has 4"),
        ({"max_macs": 1.0}, "max_macs must be enough for some profile, got 1"),
    ],
)
def test_what_the_model_refuses_is_a_wrong_request(client, pictures, params, message):
    with pytest.raises(RequestError, match=message):
        classify(client, "models:/net/1", pictures, params=params)


def test_a_file_that_is_not_there_is_refused_before_the_model_is_loaded(client, tmp_path):
    with pytest.raises(RequestError, match=r"none\.png is not \(No such file or directory\)"):
        classify(client, "models:/net/1", [tmp_path / "none.png"], params={})


def test_the_verbs_print_for_people_and_for_machines(skipline, pictures):
    code, printed, _ = skipline("models")
    assert (code, "models:/net/2" in printed) == (0, True)
    arguments = ["predict", "models:/net/1", *map(str, pictures), "--min-accuracy", "0.2"]
    _, printed, _ = skipline(*arguments, "--json")
    assert len(json.loads(printed)["classes"]) == 3
    assert json.loads(printed)["profile"] == "FFFF"
    code, _, errors = skipline(*arguments, "--profile", "base")
    assert (code, "got min_accuracy and profile; leave out all but one" in errors) == (2, True)


@pytest.mark.slow
def test_the_scoring_server_takes_files_and_says_what_is_wrong(storage, pictures):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipeline", "serve", "models:/net/1", "--port", str(port)]
    server = subprocess.Popen([*command, "--storage", str(storage)], start_new_session=True)

    def ask(**params):
        images = [base64.b64encode(path.read_bytes()).decode() for path in pictures]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": images, "params": params}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["predictions"]

    try:
        wait_for(port)
        answer = ask(max_latency_ms=1e6, return_profile=True)
        assert answer["profile"] == "FFFF"
        assert np.array(answer["logits"]).shape == (3, 3)
        assert np.array(ask(profile="base")).shape == (3, 3)
        assert ask(profile="base") != ask()
        for params, message in (
            ({"profil": "base"}, "did you mean profile"),
            ({"max_latency_ms": 0.001}, "max_latency_ms must be enough for some profile"),
        ):
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                ask(**params)
            assert message in json.load(io.BytesIO(refused.value.read()))["message"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_for(port):
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.5)
