"""An image of a job vanishes, is cut short or is overwritten while the job trains."""

import numpy as np
import pytest
from PIL import Image

from tests.faults.commands import write_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

EPOCHS = 300
"""More than a test waits for: these trainings are ended by what is done to them."""


@pytest.fixture
def images(tmp_path):
    """A folder of images and a job that trains on them, decoding them anew in every epoch."""
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(200):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    write_job(
        tmp_path,
        data={"train": str(tmp_path / "images")},
        training={"epochs": EPOCHS, "batch_size": 16, "workers": 2},
    )
    return tmp_path / "images"


def train(start, tmp_path, *settings):
    """Start the training without a place for decoded images."""
    (tmp_path / "file").touch()
    return start("train", "job.yaml", *settings, SKIPLINE_CACHE_DIR=str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        (lambda file: file.unlink(), "cannot be read (No such file or directory)"),
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "cannot be decoded"),
        (lambda file: file.write_bytes(b"?" * file.stat().st_size), "not an image of a known format"),
    ],
)
def test_a_broken_image_ends_the_training_by_name_and_it_goes_on_once_it_is_restored(
    start, images, tmp_path, do, reason
):
    broken = sorted(images.rglob("*.png"))[:40]
    content = {file: file.read_bytes() for file in broken}
    command = train(start, tmp_path)
    command.until("epoch 2/")
    for file in broken:
        do(file)
    assert command.end() == 1
    last = command.printed.splitlines()[-1]
    assert f"in '{images}' one has not: cat/" in last
    assert reason in last
    assert "restore it and give the same command again" in last
    for file, whole in content.items():
        file.write_bytes(whole)
    again = train(start, tmp_path)
    again.until("epoch ")
    assert "epoch 1/" not in again.printed
    assert "epoch 2/" not in again.printed
