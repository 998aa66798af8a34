"""With `deterministic`, two processes that train the same job end with the same weights bit for bit."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.random_state import kept_random_state
from pipeline.training.determinism import seed_epoch

SCRIPT = Path(__file__).with_name("determinism_under_test.py")
ROOT = str(SCRIPT.parents[2])


def hash_of_weights(folder):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(folder)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert b"deterministic algorithms: True" in result.stdout
    (weights,) = folder.glob("skipline-*/model.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def test_two_runs_of_a_deterministic_job_have_the_same_weights_bit_for_bit(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = map(hash_of_weights, folders)
    assert first == second


def _draws(seed, *, epoch, rank):
    seed_epoch(seed, epoch=epoch, rank=rank)
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def _own_randomness():
    before = np.random.get_state()
    with kept_random_state():
        yield
    np.random.set_state(before)


@pytest.mark.usefixtures("_own_randomness")
def test_what_an_epoch_draws_follows_from_seed_epoch_and_rank_alone():
    first = _draws(0, epoch=1, rank=0)
    others = [_draws(1, epoch=1, rank=0), _draws(0, epoch=2, rank=0), _draws(0, epoch=1, rank=1)]
    assert _draws(0, epoch=1, rank=0) == first
    assert not any(draw in other for other in others for draw in first)
