"""Depths of a registered version as files that run elsewhere."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.errors import JobError, RequestError
from pipeline.registry import formats
from pipeline.registry.pull import pull

pytestmark = pytest.mark.usefixtures("registered")

LOAD = """
import sys
import numpy as np, torch
from load import load
module, images = load(), torch.from_numpy(np.load("images.npy"))
with torch.inference_mode():
    np.save("logits.npy", np.stack([module(images, *profile).numpy() for profile in eval(sys.argv[1])]))
assert not [name for name in sys.modules if name.partition(".")[0] in ("pipeline", "mlflow", "ray")]
"""

ONNX_ALONE = """
import sys
sys.modules["torch"] = None
import json, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
inputs = {"images": np.load("images.npy")}
if len(session.get_inputs()) == 2:
    inputs["skips"] = np.array([letter == "T" for letter in "FTFT"])
np.save("logits.npy", session.run(["logits"], inputs)[0])
"""


@pytest.fixture
def registered(register):
    return register()


@pytest.fixture
def images(preprocessing):
    mean, std = (np.array(preprocessing[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    return ((np.random.default_rng(1).random((2, 3, 16, 16)) - mean) / std).astype(np.float32)


@pytest.fixture
def take(client, tmp_path):
    def call(file_format, params, *, name="out"):
        told = []
        pulled = pull(
            client,
            "models:/net/1",
            format_name=file_format,
            folder=tmp_path / name,
            params=params,
            on_progress=lambda *done: told.append(done),
        )
        assert told == [(n + 1, len(pulled.differences)) for n in range(len(pulled.differences))]
        return pulled

    return call


def logits_of(network, images, profile):
    with torch.inference_mode():
        return network(torch.from_numpy(images), profile).numpy()


def run(script, folder, *arguments):
    subprocess.run([sys.executable, "-c", script, *arguments], cwd=folder, env={"PATH": ""}, check=True)
    return np.load(folder / "logits.npy")


@pytest.mark.parametrize("file_format", ["safetensors", "torch"])
def test_weights_of_one_depth_load_with_the_code_beside_them(take, network, images, file_format):
    pulled = take(file_format, {"profile": "FTFT"})
    np.save(pulled.folder / "images.npy", images)
    (found,) = run(LOAD, pulled.folder, "[()]")
    np.testing.assert_allclose(found, logits_of(network, images, "FTFT"), rtol=0, atol=1e-6)
    assert pulled.differences.keys() == {"FTFT"}
    assert pulled.num_bytes == pulled.file.stat().st_size


def test_weights_of_all_depths_take_the_profile_as_an_argument(take, network, images):
    pulled = take("safetensors", None)
    np.save(pulled.folder / "images.npy", images)
    profiles = ["FFFF", "FTFT", "TTTT"]
    found = run(LOAD, pulled.folder, str([(profile,) for profile in profiles]))
    expected = [logits_of(network, images, profile) for profile in profiles]
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-6)
    assert len(pulled.differences) == 16


def test_one_depth_has_fewer_weights_than_all(take):
    assert take("safetensors", {"profile": "base"}).num_bytes < take("torch", None, name="all").num_bytes


@pytest.mark.parametrize("params", [{"profile": "FTFT"}, None], ids=["one", "all"])
def test_an_onnx_file_runs_without_torch(take, network, images, params):
    pulled = take("onnx", params)
    np.save(pulled.folder / "images.npy", images)
    found = run(ONNX_ALONE, pulled.folder)
    expected = logits_of(network, images, "FTFT")
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert len(pulled.differences) == (16 if params is None else 1)


@pytest.mark.parametrize("params", [{"profile": "base"}, None], ids=["one", "all"])
def test_a_torch_program_computes_what_the_network_does(take, params):
    pulled = take("pt2", params)
    assert max(pulled.differences.values()) < 1e-6
    assert pulled.file.name == "model.pt2"


def test_a_budget_chooses_the_depth_as_the_model_does(take, table):
    pulled = take("safetensors", {"min_accuracy": table.results[1].top1})
    facts = json.loads((pulled.folder / "model.json").read_text())
    assert facts["profile"] == pulled.profile == "FFFF"
    assert [row["profile"] for row in facts["reached"]] == ["FFFF"]
    assert facts["class_names"] == ["a", "b", "c"]
    assert facts["difference_from_torch"] == pulled.differences


def test_what_cannot_be_pulled_is_refused(take, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with pytest.raises(RequestError, match=r"must be empty or absent, .*full holds files"):
        take("torch", None, name="full")
    with pytest.raises(RequestError, match="has 4 skippable stages"):
        take("torch", {"profile": "TT"})
    with pytest.raises(RequestError, match="min_accuracy must be reached by some profile, got 1"):
        take("torch", {"min_accuracy": 1.0})
    assert [path.name for path in tmp_path.iterdir() if path.name == "out"] == []


def test_a_file_that_computes_something_else_leaves_nothing(take, tmp_path, monkeypatch):
    class Halved(formats.Safetensors):
        def save(self, weights, path):
            super().save({name: tensor / 2 for name, tensor in weights.items()}, path)

    monkeypatch.setitem(formats.FORMATS, "safetensors", Halved())
    with pytest.raises(JobError, match=r"model\.safetensors differs by .* at FFFF; nothing was written"):
        take("safetensors", {"profile": "full"})
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
