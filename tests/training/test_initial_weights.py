"""The file that trainings start from, from the driver's step to a real worker."""

import re
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.config import parse_job
from pipeline.errors import RequestError
from pipeline.folder import JobFolder
from pipeline.preflight import find_problems
from pipeline.search.record import TrialRecord
from pipeline.search.trial import TrialSetup, train
from pipeline.steps import opened, prepare_teacher
from pipeline.storage import StoragePath
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import plan_training
from pipeline.training.session import build_network, build_teacher
from pipeline.training.trainer import run_training

KWARGS = {"patch_size": 4, "depth": 4, "embed_dim": 16, "num_heads": 2}


class Heard:
    """A reporter that remembers."""

    def __init__(self):
        self.facts = []

    def say(self, text):
        self.facts.append(text)

    def advance(self, what, done, total, note=""):
        """Progress is not under test."""


@pytest.fixture
def checkpoint(tmp_path):
    """Weights of a ViT with seven classes."""
    path = tmp_path / "vit.safetensors"
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=8, **KWARGS)
    save_file(model.state_dict(), path)
    return path


@pytest.fixture
def job(tmp_path, checkpoint):
    """A job on digits that starts from the checkpoint."""
    return parse_job(
        {
            "name": "tiny",
            "data": {"train": "builtin:digits", "image_size": 8, "crop": "none", "flip_probability": 0.0},
            "backbone": {"name": "vit_tiny_patch16_224", "pretrained": str(checkpoint), "kwargs": KWARGS},
            "training": {"epochs": 1, "batch_size": 512},
            "search": {"space": "recipe_only", "epochs": 1},
            "registry": {"model": "tiny"},
            "storage": str(tmp_path / "runs"),
        }
    )


@pytest.fixture
def prepared(job, monkeypatch):
    """Opens the job as a command does, up to the connection to Ray; returns what was said."""

    def prepare():
        heard = Heard()

        def end_here():
            raise InterruptedError("far enough")

        monkeypatch.setattr("pipeline.steps.connected", end_here)
        with pytest.raises(InterruptedError, match="far enough"), opened(job, heard):
            pass
        return heard.facts

    return prepare


def test_a_job_makes_its_initial_weights_once(prepared, job, checkpoint):
    first, file = prepared(), JobFolder.of(job).initial_weights.local_path
    assert first[-1] == f"initial weights: {checkpoint}; new: head.weight, head.bias"
    before = file.stat()
    assert not prepared()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list(file.parent.glob("*.partial"))


def test_weights_left_by_a_job_that_never_started_are_made_again(prepared, job):
    file = JobFolder.of(job).initial_weights.local_path
    file.parent.mkdir(parents=True)
    save_file({"of another job": torch.zeros(1)}, file)
    prepared()
    assert load_file(file)["head.weight"].shape == (10, 16)


def test_weights_that_turn_out_not_to_be_had_end_the_command_before_the_job_starts(job, checkpoint):
    checkpoint.unlink()
    with (
        pytest.raises(RequestError, match=r"backbone: pretrained must be true or .* no file"),
        opened(job, Heard()),
    ):
        pass
    assert not JobFolder.of(job).is_claimed


def test_every_worker_starts_from_the_file_whatever_its_seed(prepared, job, digits):
    prepared()
    file = JobFolder.of(job).initial_weights
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build_network(plan_training(job, digits, weights=GivenWeights(initial=file)))
        torch.testing.assert_close(
            dict(network.backbone.state_dict()), load_file(file.local_path), rtol=0, atol=0
        )


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_starts_from_the_file(prepared, job, digits, tmp_path):
    prepared()
    file = JobFolder.of(job).initial_weights
    plan = plan_training(job.override({"training.lr": 1e-12}), digits, weights=GivenWeights(initial=file))
    result = run_training(
        plan, name="run", storage=StoragePath.local(tmp_path), on_progress=lambda _progress: None
    )
    trained = load_file(result.checkpoint.local_path / "model.safetensors")
    for name, value in load_file(file.local_path).items():
        torch.testing.assert_close(trained[f"backbone.{name}"], value, rtol=0, atol=1e-6)


def test_a_trial_starts_from_the_file(job, digits, tmp_path, monkeypatch):
    plans = []

    def stop(plan, **_settings):
        plans.append(plan)
        raise InterruptedError("far enough")

    monkeypatch.setattr("pipeline.search.trial.fit", stop)
    monkeypatch.setattr("pipeline.search.trial.ReportHistoryCallback", object)
    weights = GivenWeights(initial=StoragePath.local(tmp_path) / "initial.safetensors")
    setup = TrialSetup(job, job.search, digits, StoragePath.local(tmp_path), weights=weights)
    with pytest.raises(InterruptedError, match="far enough"):
        train(TrialRecord(number=0, trial_id="a", values={}, seed=1), setup)
    assert plans[0].initial_weights is weights.initial


def test_a_sound_checkpoint_is_no_problem(job):
    assert find_problems(job) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.pretrained", "nowhere.pth", r"backbone: pretrained must be true or .*'nowhere.pth'"),
        (
            "backbone.pretrained",
            True,
            "backbone: pretrained weights must fit .* published vit_tiny_patch16_224",
        ),
        (
            "backbone.kwargs",
            {**KWARGS, "depth": 8},
            r"vit.safetensors does not fit .* 48 missing \(blocks.4.",
        ),
    ],
)
def test_a_misfit_is_found_before_anything_starts(job, key, value, message):
    (problem,) = find_problems(job.override({key: value}))
    assert re.search(message, problem)


@pytest.fixture
def taught(job):
    """Makes the job with a teacher."""

    def make(checkpoint):
        teacher = {"name": "vit_tiny_patch16_224", "weights": str(checkpoint), "kwargs": KWARGS}
        return job.override({"distillation.teacher": teacher, "backbone.pretrained": False})

    return make


def _prepare_teacher(job, digits):
    folder = JobFolder.of(job)
    with folder.data_plan.writing() as path:
        shutil.copy(digits.local_path, path)
    prepare_teacher(job, folder, job.distillation.teacher, Heard())
    return folder.teacher_weights


def test_a_teacher_for_other_classes_is_refused(taught, checkpoint, digits):
    job = taught(checkpoint)
    assert find_problems(job) == []
    with pytest.raises(RequestError, match=r"must predict the job's 10 classes.*lack head.weight, head.bias"):
        _prepare_teacher(job, digits)
    assert not JobFolder.of(job).teacher_weights.exists()


def test_a_teacher_whose_weights_are_no_file_is_refused(taught, tmp_path):
    (problem,) = find_problems(taught(tmp_path / "nothing.pth"))
    assert problem.startswith("distillation.teacher: pretrained must be true or the path of a checkpoint")


def test_a_worker_builds_the_teacher_from_its_file(taught, tmp_path, digits):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=8, **KWARGS)
    save_file(model.state_dict(), tmp_path / "ten.safetensors")
    job = taught(tmp_path / "ten.safetensors")
    weights = GivenWeights(teacher=_prepare_teacher(job, digits))
    teacher = build_teacher(plan_training(job, digits, weights=weights), device=torch.device("cpu"))
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(teacher.train()(images), model.eval()(images))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
