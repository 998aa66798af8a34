"""The one training on a real Ray: these start processes, so they are few."""

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import JobError
from pipeline.training.plan import plan_training
from pipeline.training.trainer import run_training


def _ignore(_progress):
    """Nobody watches."""


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_to_the_weights_of_one_with_the_same_global_batch(digits, tiny_job, tmp_path):
    ways = ({"workers": 1}, {"workers": 2}, {"workers": 2, "passes": "sequential", "accumulation_steps": 2})
    weights = []
    for number, way in enumerate(ways):
        # Not AdamW: it divides by the gradient's size, so where a gradient is zero in theory (a key's bias)
        # rounding noise alone moves the weight.
        plan = plan_training(tiny_job(optimizer="sgd", lr=0.05, **way), digits)
        result = run_training(plan, name=f"way-{number}", storage=tmp_path, on_progress=_ignore)
        weights.append(load_file(result.checkpoint / "model.safetensors"))
    one, *others = weights
    for other in others:
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


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
    result = run_training(plan_training(job, digits), name="recipe", storage=tmp_path, on_progress=_ignore)
    *_, last = result.history
    better = "ema" if last.uses_ema else "raw"
    assert last.metrics["score"] == max(last.metrics["raw/score"], last.metrics["ema/score"])
    assert last.metrics["full/top1"] == last.metrics[f"{better}/full/top1"]
    assert (result.checkpoint / "ema.safetensors").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_ended_early_goes_on_to_the_weights_of_an_uninterrupted_one(digits, tiny_job, tmp_path):
    job = tiny_job(
        schedule="multistep", milestones=[10]
    )  # a rate that does not depend on the number of epochs
    whole = run_training(plan_training(job, digits), name="whole", storage=tmp_path, on_progress=_ignore)
    first = plan_training(job.override({"training.epochs": 1, "training.milestones": [10]}), digits)
    run_training(first, name="cut", storage=tmp_path, on_progress=_ignore)
    rest = run_training(plan_training(job, digits), name="cut", storage=tmp_path, on_progress=_ignore)
    assert [report.epoch for report in rest.history] == [1, 2]
    for name, value in load_file(whole.checkpoint / "model.safetensors").items():
        torch.testing.assert_close(
            load_file(rest.checkpoint / "model.safetensors")[name], value, rtol=0, atol=1e-6
        )


@pytest.mark.usefixtures("ray_cluster")
def test_a_loss_that_is_not_finite_ends_the_training_with_the_way_out(digits, tiny_job, tmp_path):
    plan = plan_training(tiny_job(lr=1e30, optimizer="sgd"), digits)
    with pytest.raises(JobError, match=r"must stay finite, got nan in epoch 1; lower training.lr"):
        run_training(plan, name="diverges", storage=tmp_path, on_progress=_ignore)


@pytest.mark.usefixtures("ray_cluster")
def test_epochs_and_steps_are_told_while_training_runs(digits, tiny_job, tmp_path):
    heard = []
    plan = plan_training(tiny_job(), digits)
    result = run_training(plan, name="watched", storage=tmp_path, on_progress=heard.append)
    assert tuple(report for progress in heard for report in progress.reports) == result.history
    assert heard[-1].step == heard[-1].num_steps
