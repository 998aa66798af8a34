"""A small network on the digits, evaluated for real, with a search around it that was made up."""

import numpy as np
import pytest
import torch

from pipeline.config import load_job
from pipeline.data.plan import prepare_data
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.evaluate import reach, tabulate
from pipeline.folder import JobFolder
from pipeline.measuring import Candidate, analyse
from pipeline.report.provenance import Provenance
from pipeline.search.result import SearchResult, TrialResult
from pipeline.training.epochs import EpochReport
from pipeline.training.plan import plan_training
from pipeline.training.result import TrainingResult
from pipeline.training.session import build_validation_loader

CPU = torch.device("cpu")
SETTINGS = (
    "data.image_size=8",
    "data.crop=none",
    "backbone.kwargs={layers: [3, 3, 1, 1], channels: [8, 8, 8, 8], zero_init_last: false}",
)


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """Return the job and the folder of one whose every step is done but the registration."""
    storage = tmp_path_factory.mktemp("report")
    job = load_job("quickstart", [*SETTINGS, f"storage={storage}"])
    folder = JobFolder.of(job)
    folder.claim(job)
    fill(job, folder)
    return job, folder


def fill(job, folder):
    data = prepare_data(
        "builtin:digits", None, validation_fraction=0.2, seed=0, bad_items="fail", max_bad_fraction=0
    )
    with folder.data_plan.writing() as path:
        data.save(path)
    plan = plan_training(job, folder.data_plan)
    torch.manual_seed(1)
    network = plan.network.build().eval()
    batches = build_validation_loader(plan, rank=0, world_size=1)
    comparison = Comparison(network.profiles, num_classes=10, num_shown=6, device=CPU)
    reached = reach(network, batches, device=CPU, watch=comparison.watch)
    table = tabulate(reached, device=CPU, latency_runs=2)
    images = next(iter(batches))[0]
    folder.profile_table.write_text(table.to_json())
    folder.analysis.write_text(analyse(plan, Candidate(reached, comparison), images).to_json())
    folder.training_result.write_text(TrainingResult(folder.training / "checkpoint", history(4)).to_json())
    folder.search_result.write_text(search().to_json())
    folder.provenance.write_text(Provenance.of_this_process().to_json())


def history(num_epochs):
    return tuple(
        EpochReport(
            epoch,
            {
                "full/top1": 0.9 - 0.4 / epoch,
                "base/top1": 0.85 - 0.4 / epoch,
                "full/loss": 1 / epoch,
                "base/loss": 1.2 / epoch,
                "train/loss": 2 / epoch,
                "epoch_s": 18.0,
            },
            timestamp_ms=epoch,
        )
        for epoch in range(1, num_epochs + 1)
    )


def search():
    dice = np.random.default_rng(0)
    outcomes = ("finished", "stopped", "failed", "finished", "stopped", "finished", "stopped", "finished")
    trials = [
        TrialResult(
            trial_id=f"t{number}",
            number=number,
            seed=number,
            values={
                "split": [int(dice.integers(1, 3)), int(dice.integers(1, 3)), 1, 1],
                "training.lr": float(10 ** dice.uniform(-3, 0)),
                "training.optimizer": ("sgd", "adamw")[number % 2],
            },
            score=0.0 if outcome == "failed" else float(dice.uniform(0.4, 0.8)),
            epochs=2 if outcome == "finished" else 1,
            outcome=outcome,
            cause="loss is not finite" if outcome == "failed" else None,
            metrics={"full/top1": 0.8, "base/top1": 0.7},
            train_s=30.0,
        )
        for number, outcome in enumerate(outcomes)
    ]
    return SearchResult.of(trials, importance={"training.lr": 0.7, "split": 0.3}, num_dropped=1)
