"""What a notebook finds in the package."""

import subprocess
import sys

import pytest
import torch

import pipeline
from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable
from pipeline.search.result import SearchResult, TrialResult


def test_every_name_is_there():
    assert [name for name in pipeline.__all__ if getattr(pipeline, name).__name__ != name] == []
    assert set(pipeline.__all__) <= set(dir(pipeline))


def test_an_unknown_name_is_said_to_be_so():
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'rnu'"):
        pipeline.rnu  # noqa: B018


def test_importing_the_package_imports_none_of_its_parts_and_nothing_slow():
    script = "import sys, pipeline; print([name for name in sys.modules if name.startswith(PARTS)])"
    parts = ("pipeline.", "torch", "ray", "mlflow", "rich", "pydantic")
    command = [sys.executable, "-c", script.replace("PARTS", repr(parts))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_wrong_job_is_refused_with_all_its_problems():
    wrong = {"training.lrr": 1, "training.epochs": "two"}
    with pytest.raises(pipeline.RequestError, match=r"(?s)training\.epochs: .*'two'.*'training\.lrr'"):
        pipeline.tune("quickstart", wrong)


def test_a_job_without_search_cannot_be_tuned(tmp_path):
    settings = {"search": None, "storage": str(tmp_path / "runs")}
    with pytest.raises(pipeline.RequestError, match="tune needs a search section, job 'quickstart' has none"):
        pipeline.tune("quickstart", settings)


def test_three_lines_give_a_profile_table():
    network = pipeline.AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, small_images=True, image_size=8, channels=[4, 4, 4, 4]
    )
    batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))]
    table = pipeline.evaluate_profiles(network, batches, latency_runs=2)
    assert (len(table.results), table.num_images) == (16, 4)


@pytest.fixture
def table():
    full = ProfileResult("F", True, 0.5, None, 1.25, 2_000_000, 30_000, 1.5, 2.5, is_pareto=True)
    base = ProfileResult("T", True, 0.25, None, 1.5, 1_000_000, 20_000, 1.0, 2.0, is_pareto=True)
    return ProfileTable((full, base), 100, LatencyConditions("<cpu>", 2, 1, "float32"))


def test_a_profile_table_prints_as_aligned_lines(table):
    assert str(table).splitlines() == [
        "profile            top-1    loss  MMACs  params (M)  p50 ms  p95 ms  Pareto",
        "F        trained  0.5000  1.2500    2.0        0.03    1.50    2.50       ●",
        "T        trained  0.2500  1.5000    1.0        0.02    1.00    2.00       ●",
        "top-1 on 100 validation images that may also have chosen the trial, the epoch and the norm "
        "statistics; latency on <cpu>, 2 threads, batch 1, float32",
    ]


def test_a_notebook_shows_a_profile_table_as_html(table):
    html = table._repr_html_()
    assert html.startswith("<table><thead><tr><th>profile</th>")
    assert "<td>0.2500</td>" in html
    assert "latency on &lt;cpu&gt;" in html


def test_a_search_prints_its_trials():
    trials = [
        TrialResult(f"id{number}", number, 0, {"training.lr": 0.1}, score, 4, "finished", None, {}, 1.0)
        for number, score in enumerate((0.5, 0.75))
    ]
    result = SearchResult.of(trials, importance={}, num_dropped=0)
    assert str(result).splitlines()[1:] == [
        "1      finished  0.5000       4    lr 0.1",
        "2      best      0.7500       4    lr 0.1",
    ]
    assert "<td>best</td><td>0.7500</td>" in result._repr_html_()
