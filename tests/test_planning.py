"""What a job will do, said before it does it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config import load_job
from pipeline.planning import Workload, describe_plan, probe, step_macs
from pipeline.training.plan import shape_of


def rows(job, **options):
    options = {"images": None, "with_probe": False, "on_progress": lambda *_: None, **options}
    return dict(describe_plan(job, **options))


def test_images_are_counted_once_an_epoch_and_a_trial():
    job = load_job(
        "quickstart", ["search.trials=3", "search.epochs=5", "search.data_fraction=0.5", "training.epochs=20"]
    )
    assert Workload.of(job, 1000) == Workload(training=20_000, search=7500)
    assert Workload.of(load_job("quickstart", ["search=null"]), 1000).search == 0


def test_a_training_step_costs_both_extremes_there_and_back():
    network = shape_of(load_job("quickstart"))
    assert step_macs(network) == 3 * (network.cost("full").macs + network.cost("base").macs)


def test_the_plan_names_places_workers_and_costs(tmp_path):
    told = rows(load_job("quickstart", [f"storage={tmp_path}"]))
    assert told["reads"] == "builtin:digits, 1438 images to train with; validation: 20% of it held out"
    assert "16 profiles of" in told["network"]
    assert "3 trials of at most 5 epochs, " in told["search"]
    assert told["training"] == "20 epochs by 2 workers of 1 CPUs"
    assert told["writes"].startswith(f"{tmp_path}/quickstart, checkpoints of some")
    assert "28760 images in training, 21570 in trials if none is stopped: " in told["cost"]
    assert told["cost"].endswith(" tera multiply-adds")
    assert list(tmp_path.iterdir()) == []


def test_images_in_a_store_are_taken_from_the_user(tmp_path):
    job = load_job("quickstart", [f"storage={tmp_path}", "data.train=s3://bucket/images"])
    assert rows(job)["cost"] == "not known without the number of images; give --images"
    assert "20000 images in training" in rows(job, images=1000)["cost"]


def test_the_probe_times_steps_with_the_threads_of_a_worker_and_puts_them_back():
    before, told = torch.get_num_threads(), []
    found = probe(load_job("quickstart"), lambda done, total: told.append((done, total)))
    assert found.num_threads == 1
    assert torch.get_num_threads() == before
    assert found.worker_hours(3600) == pytest.approx(found.image_s)
    assert 0 < found.image_s < 10
    assert told == sorted(told)


def test_the_verb_checks_first_and_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["plan", "quickstart", "--set", "training.workers=64"])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_verb_prints_json_for_machines(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert not app(["plan", "quickstart", "--no-probe", "--json"], standalone_mode=False)
    told = json.loads(capfd.readouterr().out)
    assert told["training"] == "20 epochs by 2 workers of 1 CPUs"
    assert list(tmp_path.iterdir()) == []
