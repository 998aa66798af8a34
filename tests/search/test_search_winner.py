"""The training goes on from the weights of the best trial, where the job says so."""

from types import SimpleNamespace

import pytest
import torch
from timm.optim import create_optimizer_v2

from pipeline.config import parse_job
from pipeline.search.observer import GuardedObserver
from pipeline.search.trial import TrialSetup, run_name, tune_result
from pipeline.search.watcher import TrialWatcher
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import TrainingState, save_checkpoint
from pipeline.training.epochs import EpochReport, Reached
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import plan_training
from pipeline.training.session import build_network


class Deaf:
    def on_start(self, trial_id, number, values):
        """Not under test."""

    def on_epoch(self, trial_id, metrics, *, epoch, timestamp_ms):
        """Not under test."""

    def on_pause(self, trial_id):
        """Not under test."""

    def on_resume(self, trial_id):
        """Not under test."""

    def on_end(self, trial_id, outcome, cause):
        """Not under test."""


@pytest.fixture(params=["continue", "retrain"])
def setup(request, digits, tmp_path):
    job = parse_job(
        {
            "name": "tiny",
            "data": {"train": "builtin:digits", "image_size": 8, "crop": "none", "flip_probability": 0.0},
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": [2, 2, 1, 1], "channels": [4, 4, 4, 4]},
            },
            "training": {"epochs": 4},
            "search": {"space": "recipe_only", "trials": 3, "epochs": 2, "winner": request.param},
            "registry": {"model": "tiny"},
        }
    )
    return TrialSetup(job, job.search, digits, StoragePath.local(tmp_path) / "search")


def network_of(setup, seed):
    torch.manual_seed(seed)
    return build_network(plan_training(setup.job, setup.data))


class Sweep:
    """Trials as Ray Tune tells of them, with checkpoints whose weights follow from trial and epoch."""

    def __init__(self, setup):
        self.setup, self.watcher = setup, TrialWatcher(setup, GuardedObserver(Deaf()))

    def run(self, number, *scores, failure=None):
        trial = SimpleNamespace(trial_id=f"t{number}", config={"number": number, "values": {}})
        self.watcher.on_trial_start(0, [], trial)
        history = ()
        for epoch, score in enumerate(scores, start=1):
            history = (*history, EpochReport(epoch, {"score": score, "train/loss": 1.0}, 1))
            network = network_of(self.setup, seed=10 * number + epoch)
            folder = (self.setup.runs / run_name(trial.trial_id)).local_path / f"checkpoint_{epoch:04d}"
            folder.mkdir(parents=True)
            state = TrainingState(network, create_optimizer_v2(network, "sgd", lr=0.1))
            save_checkpoint(folder, state, Reached(history))
        trial.last_result = tune_result(history, failure=failure)
        self.watcher.on_trial_result(0, [], trial, trial.last_result)
        self.watcher.on_trial_complete(0, [], trial)


def test_the_best_epoch_of_the_best_sound_trial_is_kept(setup):
    sweep = Sweep(setup)
    sweep.run(0, 0.1, 0.2)
    sweep.run(1, 0.6, 0.5)
    sweep.run(2, 0.9, failure="OSError: disk full")
    assert not setup.runs.exists() or setup.runs.children() == []
    assert sum(record.deleted_bytes for record in sweep.watcher.ended()) > 0
    if setup.search.winner == "retrain":
        assert not setup.winner.exists()
        return
    plan = plan_training(setup.job, setup.data, weights=GivenWeights(winner=setup.winner))
    expected = network_of(setup, seed=11).state_dict()
    torch.testing.assert_close(build_network(plan).state_dict(), expected, rtol=0, atol=0)


def test_among_equals_the_first_is_kept(setup):
    sweep = Sweep(setup)
    sweep.run(0, 0.5)
    sweep.run(1, 0.5)
    if setup.search.winner == "continue":
        plan = plan_training(setup.job, setup.data, weights=GivenWeights(winner=setup.winner))
        expected = network_of(setup, seed=1).state_dict()
        torch.testing.assert_close(build_network(plan).state_dict(), expected, rtol=0, atol=0)
