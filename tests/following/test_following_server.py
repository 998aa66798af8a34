"""A registered model served at the depth of the load, as its callers meet it: real Ray Serve, real HTTP."""

import base64
import io
import json
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RequestError
from pipeline.following.server import prepared, require_following, serving

TARGET_MS = 500.0


class Silent:
    def advance(self, what, done, total):
        """Nobody looks."""


@pytest.fixture
def model_uri(register, table):
    rows = tuple(replace(row, is_pareto=row.profile in ("FFFF", "TTFF", "TTTT")) for row in table.results)
    return register(table=replace(table, results=rows)).uri


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Caller:
    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path):
        with urllib.request.urlopen(self._url + path, timeout=60) as response:
            return response.read()

    def ask(self, images, **params):
        return self.post(json.dumps({"inputs": images, "params": params}).encode())["predictions"]

    def post(self, body, content_type="application/json"):
        request = urllib.request.Request(f"{self._url}/invocations", body, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def refusal(self, call):
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            call()
        return json.load(refused.value)["message"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_served_model_answers_at_the_depth_asked_for_or_followed_and_tells_the_mix(
    client, model_uri, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    port = free_port()
    with (
        prepared(client.tracking_uri, model_uri, target_ms=TARGET_MS, progress=Silent()) as model,
        serving(model, target_ms=TARGET_MS, host="127.0.0.1", port=port) as report,
    ):
        caller = Caller(port)
        assert caller.get("/ping") == caller.get("/health") == b"\n"
        followed = caller.ask([png(0), png(1)], return_profile=True)
        assert followed["profile"] == "FFFF"  # nothing else waits
        assert np.shape(followed["logits"]) == (2, 3)
        first = np.array(followed["logits"][:1])
        # The logits of a network that was never trained are millions.
        assert np.abs(caller.ask([png(0)]) - first).max() < 1e-5 * np.abs(first).max()
        base = caller.ask([png(0)], profile="base", return_profile=True)
        assert base["profile"] == "TTTT"
        assert not np.allclose(base["logits"], followed["logits"][:1])
        assert caller.ask([png(0)], max_latency_ms=1e6, return_profile=True)["profile"] == "FFFF"
        assert caller.ask([png(0)], min_accuracy=0.06, return_profile=True)["profile"] == "FFFF"

        for call, message in (
            (lambda: caller.ask([png(0)], profil="base"), "got 'profil'; did you mean profile"),
            (lambda: caller.ask([png(0)], max_latency_ms=0.001), "max_latency_ms must be enough"),
            (lambda: caller.ask(["bm8gaW1hZ2U="]), "image 0 of 8 bytes is not"),
            (lambda: caller.post(b"{"), "a request is JSON, got 1 bytes that are not"),
            (lambda: caller.post(b"[]"), "a request is a JSON object, got list"),
            (lambda: caller.post(b"1,2", "text/csv"), "a request is application/json, got text/csv"),
        ):
            assert message in caller.refusal(call)

        answers = many_at_once(caller, 24)
        assert all(answer["profile"] in ("FFFF", "TTFF", "TTTT") for answer in answers)
        told = json.loads(caller.get("/report"))
        assert told == {**report(), "p50_ms": told["p50_ms"], "p95_ms": told["p95_ms"]}
        assert (told["requests"], told["refused"], told["errors"]) == (5 + 24, 6 + 24, 0)
        assert sum(told["since_start"]["images"].values()) == 6 + 24
        assert told["since_start"] == told["last_minute"]
        assert 0 < told["p50_ms"] <= told["p95_ms"]
        assert 0 < told["since_start"]["mean_depth"] < 1
        assert told["validation_images"] == 30
        assert told["counted_on"].startswith("30 validation images that may also have chosen")


def many_at_once(caller, num_requests):
    """Ask from eight threads, each time with a broken image beside; returns the answers."""

    def ask(number):
        assert "is not" in caller.refusal(lambda: caller.ask(["bm8="]))
        return caller.ask([png(number)], return_profile=True)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, range(num_requests)))


def test_a_target_that_no_profile_can_keep_is_refused_with_the_fastest(client, model_uri):
    with (
        pytest.raises(
            RequestError, match=r"got 0\.001; the fastest profile, \w+, takes [\d.]+ ms \(p95\) on cpu"
        ),
        prepared(client.tracking_uri, model_uri, target_ms=0.001, progress=Silent()),
    ):
        pass


def test_a_port_that_is_taken_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RequestError, match=r"127\.0\.0\.1:\d+ is not \(Address already in use\)"):
            require_following("127.0.0.1", other.getsockname()[1])


def test_a_cluster_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(RequestError, match="RAY_ADDRESS names a cluster; unset it"):
        require_following("127.0.0.1", free_port())
