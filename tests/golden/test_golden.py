"""The numerics of the training are those that were recorded, whatever way a step is computed.

Where one fails, a change has altered what is computed. If that is meant,
`python -m tests.golden.golden_run` records it, and the commit shows loss before and after.
"""

import json

import pytest
import torch
from torch._dynamo.utils import counters

from tests.golden.golden_run import BACKBONES, GoldenRun, record, run_golden

TOLERANCE = {"rel": 1e-7, "abs": 1e-9}
"""Chosen: ways of computing, and machines, sum in other orders, which in float64 stays far below that."""


def recorded(backbone):
    return GoldenRun(**json.loads(record(backbone).read_text()))


def assert_same(run, golden):
    assert run.losses == pytest.approx(golden.losses, **TOLERANCE)
    assert run.statistics == pytest.approx(golden.statistics, **TOLERANCE)
    assert run.logits.keys() == golden.logits.keys()
    for letters, logits in golden.logits.items():
        assert run.logits[letters] == pytest.approx(logits, **TOLERANCE)
    assert run.validation == pytest.approx(golden.validation, **TOLERANCE)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_computes_what_was_recorded(backbone, tmp_path):
    assert_same(run_golden(backbone, tmp_path), recorded(backbone))


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("resnet", {"recompute_activations": True}),
        ("mobilenet", {"recompute_activations": True}),
        ("resnet", {"stops_after": 7}),
        ("swin", {"accumulation_steps": 4}),
        ("vit", {"passes": "sequential", "accumulation_steps": 2}),
    ],
    ids=str,
)
def test_the_way_of_computing_changes_nothing(backbone, settings, tmp_path):
    assert_same(run_golden(backbone, tmp_path, **settings), recorded(backbone))


# torch's compiler looks at gradients that are not there yet.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_code_computes_the_same(tmp_path):
    torch.compiler.reset()
    counters.clear()
    run = run_golden("vit", tmp_path, compile=True)
    assert counters["stats"]["unique_graphs"] > 2
    assert_same(run, recorded("vit"))


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_compute_the_same(tmp_path):
    assert_same(run_golden("vit", tmp_path, workers=2), recorded("vit"))
