"""What a version holds loads and predicts where this project is not installed."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image

import pipeline
from pipeline.registry import tags
from pipeline.registry.model_code import AdaptiveDepthModel
from pipeline.registry.package import staged_package

CONSUMER = '''
import importlib.machinery, os, sys
class OnlyHere:
    """Finds `pipeline` in the working folder and nowhere else."""
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipeline", "networks"):
            spec = importlib.machinery.PathFinder.find_spec(name, path or [os.getcwd()])
            if spec is None:
                raise ModuleNotFoundError(name, name=name)
            return spec
sys.meta_path.insert(0, OnlyHere())
path = list(sys.path)
import numpy as np, mlflow, pipeline
project, uri, profiles = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
mlflow.set_tracking_uri(uri)
model, second = mlflow.pyfunc.load_model("models:/net/1"), mlflow.pyfunc.load_model("models:/net/1")
images = np.load("images.npy")
outputs = {p: model.predict(images, params={"profile": p}) for p in profiles}
outputs["default"] = second.predict(images)
np.savez("outputs.npz", **outputs)
assert pipeline.OWNER == "consumer" and sys.path == path
foreign = [m for m in list(sys.modules.values()) if (getattr(m, "__file__", "") or "").startswith(project)]
assert not foreign, foreign
'''


@pytest.fixture
def registered(register):
    return register()


@pytest.fixture
def files(client, registered):
    return Path(client.get_logged_model(registered.model_id).artifact_location.removeprefix("file://"))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)


@pytest.fixture
def stage(network, preprocessing, table, origin):
    return partial(
        staged_package,
        network,
        preprocessing=preprocessing,
        class_names="abc",
        table=table,
        origin=origin,
    )


@pytest.fixture
def model(stage):
    context = type("Context", (), {"model_config": {}})
    with stage() as package:
        context.artifacts = {"package": str(package.folder)}
        model = AdaptiveDepthModel()
        model.load_context(context)
    return model


def trainers_logits(network, preprocessing, images, profile):
    mean, std = (torch.tensor(preprocessing[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        return network((torch.from_numpy(images) - mean) / std, profile).numpy()


def test_a_version_predicts_every_profile_without_this_project(
    client, network, preprocessing, images, files, tmp_path
):
    (tmp_path / "pipeline.py").write_text("OWNER = 'consumer'")
    np.save(tmp_path / "images.npy", images)
    profiles = [*map(str, network.profiles), "full", "base"]
    project = str(Path(pipeline.__file__).parent)
    subprocess.run(
        [sys.executable, "-I", "-c", CONSUMER, project, client.tracking_uri, ",".join(profiles)],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        check=True,
    )
    outputs = np.load(tmp_path / "outputs.npz")
    for profile in profiles:
        expected = trainers_logits(network, preprocessing, images, profile)
        np.testing.assert_allclose(outputs[profile], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(outputs["default"], outputs["full"])
    assert len({outputs[profile].tobytes() for profile in profiles[:16]}) == 16
    assert not list((files / "artifacts").rglob("__pycache__"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_environment_of_the_pinned_requirements_alone_predicts_every_profile(
    client, network, preprocessing, images, files, tmp_path
):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(files / "requirements.txt")]
    subprocess.run(install, check=True)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "pipeline.py").write_text("OWNER = 'consumer'")
    profiles = [*map(str, network.profiles), "full", "base"]
    project = str(Path(pipeline.__file__).parent)
    arguments = [project, client.tracking_uri, ",".join(profiles)]
    subprocess.run([python, "-I", "-c", CONSUMER, *arguments], cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npz")
    for profile in profiles:
        expected = trainers_logits(network, preprocessing, images, profile)
        np.testing.assert_allclose(outputs[profile], expected, rtol=1e-5, atol=1e-5)


def test_a_model_card_tells_data_split_profiles_and_limits(files, table, origin):
    card = (files / "artifacts" / "package" / "MODEL_CARD.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=\n\n## |\Z)", card, re.M | re.S))
    assert list(sections) == ["Data", "Split", "Profiles", "Input", "Recipe", "Limits"]
    assert "60 training images: images" in sections["Data"]
    assert f"- accuracies below are on {table.images}; there was no test set" in sections["Data"]
    assert "| layer1 | 2 | 1 | 1 |" in sections["Split"]
    assert table.to_markdown() in sections["Profiles"]
    assert yaml.safe_load(sections["Recipe"].strip("`").removeprefix("yaml")) == origin.settings
    assert "14 of 16 profiles were not trained" in sections["Limits"]


def test_a_version_holds_no_pickle(files):
    settings = yaml.safe_load((files / "MLmodel").read_text())["flavors"]["python_function"]
    assert "python_model" not in settings
    assert settings["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    found = [path for path in files.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {"", ".json", ".md", ".py", ".safetensors", ".txt", ".yaml"}
    assert not [
        path for path in found if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")
    ]


def test_a_version_names_no_path_of_this_machine(files):
    texts = [
        path.read_text() for path in files.rglob("*") if path.is_file() and path.suffix != ".safetensors"
    ]
    assert not [text for text in texts if str(Path(pipeline.__file__).parents[1]) in text]


def test_requirements_are_pinned_to_public_versions(files):
    lines = (files / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in lines} >= {
        "mlflow",
        "torch",
        "timm",
        "safetensors",
        "numpy",
    }
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_shipped_code_imports_nothing_of_this_project(files):
    for path in (files / "artifacts" / "package" / "code").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (pipeline|search_spaces|cluster)\b", path.read_text(), re.M)


def test_a_package_says_what_its_outputs_mean(files, preprocessing):
    config = json.loads((files / "artifacts" / "package" / "network.json").read_text())
    assert (config["class_names"], config["preprocessing"]) == (["a", "b", "c"], preprocessing)


@pytest.mark.parametrize(
    ("profile", "message"),
    [("TFF", "'TFF' has 3 letters, resnet18 has 4"), ("small", "letters T and F, got 'small'")],
)
def test_a_bad_profile_is_refused(model, images, profile, message):
    with pytest.raises(MlflowException, match=message):
        model.predict(None, images, {"profile": profile})


def test_bytes_are_refused(model, images):
    with pytest.raises(MlflowException, match=r"values from 0 to 1, got .* to 25\d.*; divide bytes by 255"):
        model.predict(None, images * 255)


def test_not_a_number_is_refused(model, images):
    with pytest.raises(MlflowException, match="values from 0 to 1, got nan"):
        model.predict(None, images * np.nan)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 16, 3), (2, 3, 8, 8)])
def test_a_wrong_shape_is_refused(model, shape):
    with pytest.raises(MlflowException, match=re.escape(f"(any number, 3, 16, 16), got {shape}")):
        model.predict(None, np.zeros(shape, np.float32))


def test_no_images_give_no_logits(model):
    assert model.predict(None, np.zeros((0, 3, 16, 16), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("name", ["model.safetensors", "profiles.json", "code/networks/adaptive.py"])
@pytest.mark.parametrize("harm", ["cut", "lost"])
def test_a_package_whose_files_are_not_the_registered_ones_is_refused(stage, name, harm):
    context = type("Context", (), {"model_config": {}})
    with stage() as package:
        file = package.folder / name
        file.write_bytes(file.read_bytes()[:-1]) if harm == "cut" else file.unlink()
        context.artifacts = {"package": str(package.folder)}
        law = rf"files must have the SHA-256 that was registered, \w+\.\.\. for {name}, got"
        with pytest.raises(MlflowException, match=law):
            AdaptiveDepthModel().load_context(context)


def test_a_version_is_tagged_with_the_checksum_of_every_file(client, registered, files):
    package = files / "artifacts" / "package"
    checksums = json.loads(client.get_model_version("net", registered.version).tags[tags.CHECKSUMS])
    held = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    assert checksums.keys() == held.keys() - {"checksums.json"}
    for name, digest in checksums.items():
        assert hashlib.sha256(held[name].read_bytes()).hexdigest() == digest


@pytest.fixture
def loaded(client, registered, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    return mlflow.pyfunc.load_model(registered.uri)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"profil": "TTTT"}, "got 'profil'; did you mean profile"),
        ({"profile": "TTTT", "max_macs": 1e9}, "got max_macs and profile; leave out all but one"),
        ({"max_macs": 1}, "max_macs must be enough for some profile, got 1; the cheapest, FFFF, takes"),
    ],
)
def test_parameters_that_mlflow_would_drop_are_refused(loaded, images, params, message):
    with pytest.raises(MlflowException, match=message) as caught:
        loaded.predict(images, params=params)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("is_python_model", [True, False])
def test_a_model_that_calls_this_one_gives_it_parameters_of_its_own(loaded, images, is_python_model):
    inner = loaded.unwrap_python_model()

    class Outer:
        def predict(self, data, params=None):
            assert params["profile"] == "full"
            return inner.predict(None, data, {"profile": "base"})

    implementation = Outer()
    if is_python_model:
        implementation.python_model = implementation
    outer = mlflow.pyfunc.PyFuncModel(model_meta=loaded.metadata, model_impl=implementation)
    expected = loaded.predict(images, params={"profile": "base"})
    np.testing.assert_array_equal(outer.predict(images, params={"profile": "full"}), expected)


def test_a_budget_chooses_and_the_answer_says_what(loaded, images, table):
    answer = loaded.predict(images, params={"min_accuracy": 1 / 4, "return_profile": True})
    assert answer["profile"] == "FFFF"  # all cost the same in this table
    assert answer["latency"] == str(table.latency)
    np.testing.assert_array_equal(answer["logits"], loaded.predict(images, params={"profile": "FFFF"}))


def test_latencies_of_this_machine_replace_the_registered_ones(loaded, images):
    here = loaded.unwrap_python_model().calibrate(batch_size=2)
    slowest = max(row.latency_p95_ms for row in here.results)
    answer = loaded.predict(images, params={"max_latency_ms": slowest, "return_profile": True})
    best = max(here.results, key=lambda row: (row.top1, -row.macs))
    assert (answer["profile"], answer["latency"]) == (best.profile, str(here.latency))


def test_files_and_pixels_are_classified_as_tensors_are(loaded):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), np.uint8)
    files = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    logits = loaded.predict(files, params={"profile": "base"})
    assert logits.shape == (2, 3)
    np.testing.assert_array_equal(loaded.predict(pixels, params={"profile": "base"}), logits)


def test_many_threads_get_what_one_gets(loaded, network, images):
    profiles = list(map(str, network.profiles))
    alone = {profile: loaded.predict(images, params={"profile": profile}) for profile in profiles}
    fresh = loaded.unwrap_python_model()
    fresh._subnetworks.clear()  # so that threads build them, too

    def predict_many(seed):
        draw = random.Random(seed)
        return [
            np.array_equal(loaded.predict(images, params={"profile": profile}), alone[profile])
            for profile in draw.choices(profiles, k=200)
        ]

    with ThreadPoolExecutor(8) as pool:
        answers = [same for found in pool.map(predict_many, range(8)) for same in found]
    assert len(answers) == 1600
    assert all(answers)
