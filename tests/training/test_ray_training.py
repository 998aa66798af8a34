"""The one training on a real Ray: these start processes, so they are few."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from cluster.runtime import OBJECT_STORE_BYTES
from pipeline.errors import JobError
from pipeline.recipe import TrainingConfig
from pipeline.storage import StoragePath
from pipeline.training.plan import plan_training
from pipeline.training.trainer import run_training
from tests.training.training_under_test import tiny_job as bn_job


def _ignore(_progress):
    """Nobody watches."""


def train(plan, folder, *, name="run", on_progress=_ignore):
    """Train a plan, with its run in a folder."""
    return run_training(plan, name=name, storage=StoragePath.local(folder), on_progress=on_progress)


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_to_the_weights_of_one_with_the_same_global_batch(digits, tiny_job, tmp_path):
    ways = ({"workers": 1}, {"workers": 2}, {"workers": 2, "passes": "sequential", "accumulation_steps": 2})
    weights = []
    for number, way in enumerate(ways):
        # Not AdamW: it divides by the gradient's size, so where a gradient is zero in theory (a key's bias)
        # rounding noise alone moves the weight.
        plan = plan_training(tiny_job(optimizer="sgd", lr=0.05, **way), digits)
        result = train(plan, tmp_path, name=f"way-{number}")
        weights.append(load_file(result.checkpoint.local_path / "model.safetensors"))
    one, *others = weights
    for other in others:
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_remember_the_statistics_of_all_their_images(digits, tmp_path):
    statistics = []
    for workers in (1, 2):
        # At no rate worth the name the stem sees the same in both, so its means differ by the images alone.
        job = bn_job(epochs=1, warmup_epochs=0, batch_size=64, lr=1e-30, workers=workers)
        result = train(plan_training(job, digits), tmp_path, name=f"statistics-{workers}")
        weights = load_file(result.checkpoint.local_path / "model.safetensors")
        statistics.append(weights["backbone.bn1.running_mean"])
    alone, together = statistics
    assert alone.abs().max() > 0.01
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_the_whole_recipe_trains_and_the_better_of_weights_and_average_is_told(digits, tiny_job, tmp_path):
    job = tiny_job(
        workers=2,
        ema_decay=0.99,
        precision="bf16",
        clip_grad=1.0,
        layer_decay=0.9,
        loss="bce",
        label_smoothing=0.1,
        recompute_activations=True,
    )
    job = job.override(
        {
            "augmentation": {"policy": "trivial", "erasing": 0.2, "mixup": 0.2, "cutmix": 1.0},
            "distillation": {"students": "base_and_sampled", "student_labels": "fading", "features": 1.0},
        }
    )
    result = train(plan_training(job, digits), tmp_path, name="recipe")
    *_, last = result.history
    better = "ema" if last.uses_ema else "raw"
    assert 0 < last.metrics["train/data_wait"] < 1
    assert last.metrics["score"] == max(last.metrics["raw/score"], last.metrics["ema/score"])
    assert last.metrics["full/top1"] == last.metrics[f"{better}/full/top1"]
    assert (result.checkpoint / "ema.safetensors").exists()


@pytest.mark.slow  # test_training_kill resumes as well
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_ended_early_goes_on_to_the_weights_of_an_uninterrupted_one(digits, tiny_job, tmp_path):
    job = tiny_job(
        schedule="multistep", milestones=[10]
    )  # a rate that does not depend on the number of epochs
    whole = train(plan_training(job, digits), tmp_path, name="whole")
    first = plan_training(job.override({"training.epochs": 1, "training.milestones": [10]}), digits)
    train(first, tmp_path, name="cut")
    rest = train(plan_training(job, digits), tmp_path, name="cut")
    assert [report.epoch for report in rest.history] == [1, 2]
    for name, value in load_file(whole.checkpoint.local_path / "model.safetensors").items():
        torch.testing.assert_close(
            load_file(rest.checkpoint.local_path / "model.safetensors")[name], value, rtol=0, atol=1e-6
        )


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_loss_that_is_not_finite_ends_the_training_at_once_with_the_way_out(
    digits, tiny_job, tmp_path, workers
):
    plan = plan_training(tiny_job(lr=1e30, optimizer="sgd", workers=workers), digits)
    message = (
        r"got nan in epoch 1, step 2 of 22, at learning rate 9.98726e\+29; first not finite: .*; "
        r"lower training.lr .*, under another job name"
    )
    with pytest.raises(JobError, match=message):
        train(plan, tmp_path, name="diverges")
    assert not list(tmp_path.glob("diverges/checkpoint_0*"))


@pytest.fixture
def broken_run(digits, tiny_job, tmp_path, request):
    """A run of two epochs some of whose checkpoints were cut short afterwards; and the weights it had."""
    plan = plan_training(tiny_job(deterministic=True), digits)
    train(plan, tmp_path)
    weights = load_file(tmp_path / "run" / "checkpoint_0002" / "model.safetensors")
    for name in request.param:
        file = tmp_path / "run" / name / "model.safetensors"
        start = file.read_bytes()[:100]
        file.unlink()  # the weights above are read from it lazily
        file.write_bytes(start)
    return plan, weights


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("broken_run", "notes"),
    [
        pytest.param(
            ["checkpoint_0002"],
            [r"the one before it is used: .*/checkpoint_0002 is not: model.safetensors"],
            marks=pytest.mark.slow,
        ),
        (
            ["checkpoint_0001", "checkpoint_0002"],
            [
                r"the one before it is used: .*/checkpoint_0002 is not: model.safetensors was cut short",
                r"training starts over: .*/checkpoint_0001 is not: model.safetensors was cut short",
            ],
        ),
    ],
    indirect=["broken_run"],
)
def test_a_truncated_checkpoint_is_refused_by_name_and_the_one_before_it_used(broken_run, notes, tmp_path):
    (plan, weights), heard = broken_run, []
    result = train(plan, tmp_path, on_progress=heard.append)
    told = [note for progress in heard for note in progress.notes]
    assert all(re.search(pattern, note) for pattern, note in zip(notes, told, strict=True))
    last = load_file(tmp_path / "run" / "checkpoint_0002.2" / "model.safetensors")
    torch.testing.assert_close(last, weights, rtol=0, atol=0)
    assert result.checkpoint.name in ("checkpoint_0001", "checkpoint_0001.2", "checkpoint_0002.2")


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_goes_on_though_its_list_was_cut_short_and_a_folder_deleted(digits, tiny_job, tmp_path):
    plan = plan_training(tiny_job(), digits)
    train(plan, tmp_path)
    run, heard = tmp_path / "run", []
    (run / "checkpoint_manager_snapshot.json").write_text("{")
    shutil.rmtree(run / "checkpoint_0002")
    result = train(plan, tmp_path, on_progress=heard.append)
    (note,) = [note for progress in heard for note in progress.notes]
    assert re.search(r"checkpoint_0002 is not: checkpoint.json is missing", note)
    assert [report.epoch for report in result.history] == [1, 2]


@pytest.mark.usefixtures("ray_cluster")
def test_the_best_checkpoints_by_the_named_metric_and_the_latest_are_kept(digits, tiny_job, tmp_path):
    job = tiny_job(epochs=5, lr=0.03, keep_checkpoints=2, best_by="base/loss")
    result = train(plan_training(job, digits), tmp_path)
    ranked = sorted(result.history, key=lambda report: report.metrics["base/loss"])
    kept = {f"checkpoint_{report.epoch:04d}" for report in ranked[:2]} | {"checkpoint_0005"}
    assert {path.name for path in (tmp_path / "run").glob("checkpoint_0*")} == kept
    assert result.checkpoint.name == f"checkpoint_{ranked[0].epoch:04d}"


@pytest.mark.slow  # tests/test_chaos.py looks, too
@pytest.mark.usefixtures("ray_cluster")
def test_nothing_is_left_beside_the_run_once_it_is_stored(digits, tiny_job, tmp_path):
    plan = plan_training(tiny_job(epochs=1), digits)
    before = set(Path(tempfile.gettempdir()).glob("skipline-*"))
    train(plan, tmp_path)
    assert set(Path(tempfile.gettempdir()).glob("skipline-*")) <= before


@pytest.mark.parametrize(
    ("metric", "order"), [("score", "max"), ("full/top1", "max"), ("base/loss", "min"), ("full/loss", "min")]
)
def test_a_loss_is_best_where_it_is_least(metric, order):
    assert TrainingConfig(epochs=1, best_by=metric).best_is == order


@pytest.mark.usefixtures("ray_cluster")
def test_epochs_and_steps_are_told_while_training_runs(digits, tiny_job, tmp_path):
    heard = []
    plan = plan_training(tiny_job(), digits)
    result = train(plan, tmp_path, name="watched", on_progress=heard.append)
    assert tuple(report for progress in heard for report in progress.reports) == result.history
    assert heard[-1].step == heard[-1].num_steps


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_a_full_object_store_does_not_stop_a_training(digits, tiny_job, tmp_path):
    blocks = []

    def fill(progress):
        while progress.epoch == 2 and len(blocks) < 10:
            blocks.append(ray.put(np.full(50 << 20, len(blocks), np.uint8)))

    plan = plan_training(tiny_job(epochs=3), digits)
    history = train(plan, tmp_path, on_progress=fill).history
    assert [report.epoch for report in history] == [1, 2, 3]
    assert len(blocks) * (50 << 20) > OBJECT_STORE_BYTES
    assert [int(ray.get(block)[-1]) for block in blocks] == list(range(10))
