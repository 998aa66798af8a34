"""A job on 16-bit grey images, the whole way: trained, registered, asked, served, pulled."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request

import mlflow.pyfunc
import numpy as np
import onnxruntime
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from pipeline.registry.store import current_store
from tests.digits_job import JOB
from tests.grey_images import write_halves
from tests.production_servers import free_port

pytestmark = pytest.mark.ray

START_S = 120
"""A scoring server imports MLflow and torch in several processes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a job that is done."""
    folder = tmp_path_factory.mktemp("grey")
    write_halves(folder / "images", highest=4095, images_a_class=40)
    kwargs = JOB["backbone"]["kwargs"] | {"in_chans": 1}
    job = JOB | {
        "name": "grey",
        "data": JOB["data"] | {"train": "images"},
        "backbone": JOB["backbone"] | {"kwargs": kwargs},
        "training": {"epochs": 12, "batch_size": 16, "workers": 1, "optimizer": "adamw", "lr": 0.01},
        "registry": {"model": "grey"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "pipeline", "run", "job.yaml", "--quiet"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def answer(folder, invoke, monkeypatch):
    """Runs a verb on the version, in this process and the job's folder; returns its answer."""
    monkeypatch.chdir(folder)

    def run(verb, *arguments):
        ended = invoke(verb, "models:/grey/1", *map(str, arguments), "--json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.fixture(scope="module")
def files(folder):
    """Two images of each class."""
    return [folder / "images" / name / f"00{number}.png" for name in ("left", "right") for number in (0, 1)]


@pytest.fixture(scope="module")
def model(folder):
    with current_store(MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")):
        return mlflow.pyfunc.load_model("models:/grey/1")


@pytest.fixture(scope="module")
def logits(model, files):
    """What the registered version makes of the files."""
    return model.predict([file.read_bytes() for file in files])


def pixels_of(files):
    return np.stack([np.asarray(Image.open(file)) for file in files])


def test_the_classes_are_learnt_and_the_card_says_how_images_are_read(folder, answer):
    table = answer("profiles")
    assert min(row["top1"] for row in table["results"] if row["trained"]) >= 0.9
    assert "1 x 8 x 8; PNG and JPEG files are read as grey" in next(folder.rglob("MODEL_CARD.md")).read_text()


def test_what_lies_below_8_bits_reaches_a_registered_version(model, files, logits):
    rounded = np.rint(pixels_of(files) / 257).astype(np.uint8)
    assert np.abs(model.predict(rounded) - logits).max() > 1e-3


def test_files_pixels_and_floats_are_one_image_to_a_registered_version(model, files, logits):
    pixels = pixels_of(files)
    floats = (pixels[:, None] / 65535).astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels), logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.predict(floats), logits, rtol=0, atol=1e-4)


def test_predict_names_the_classes(answer, files, logits):
    names = [found["name"] for found in answer("predict", *files)["classes"]]
    assert names == [("left", "right")[index] for index in logits.argmax(1)]
    assert names == ["left", "left", "right", "right"]


def test_verify_counts_what_was_registered(answer):
    verified = answer("verify", "--data", "images")
    assert verified["are_same"]
    assert all(row["found"] == row["registered"] for row in verified["comparisons"])


def test_a_pulled_program_computes_the_same_from_images_normalised_as_it_states(
    folder, answer, files, logits
):
    answer("pull", "--format", "onnx", "--output", "pulled")
    facts = json.loads((folder / "pulled" / "model.json").read_text())
    (mean,), (std,) = facts["preprocessing"]["mean"], facts["preprocessing"]["std"]
    images = ((pixels_of(files)[:, None] / 65535 - mean) / std).astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "pulled" / facts["file"])
    np.testing.assert_allclose(session.run(["logits"], {"images": images})[0], logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_served_version_answers_the_same_by_http(folder, files, logits):
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "models:/grey/1", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, start_new_session=True)
    images = [base64.b64encode(file.read_bytes()).decode() for file in files]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": images}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        answer = answer_of(request)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    np.testing.assert_allclose(answer["predictions"], logits, rtol=0, atol=1e-5)


def answer_of(request):
    """Return what a server answers once it has started."""
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except OSError:
            assert time.monotonic() < deadline_s, "the server did not start"
            time.sleep(0.5)
