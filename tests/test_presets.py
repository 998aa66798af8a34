"""What the heads of the ImageNet presets promise, key by key."""

import pytest

from pipeline.config import load_job
from pipeline.preflight import design_problems
from pipeline.training.plan import describe_preprocessing

PAPERS = ("resnet50", "mobilenetv2", "vit_base", "swin_tiny")


@pytest.mark.parametrize("name", PAPERS)
def test_students_learn_by_the_papers_rule(name):
    job = load_job(name)
    rule = job.distillation
    assert job.training.passes == "sequential"
    assert (rule.reduction, rule.students, rule.student_labels) == ("mean", "base", "none")
    assert (rule.alpha, rule.temperature, rule.top_k, rule.features) == (0.5, 1.0, 500, 0.0)


@pytest.mark.parametrize("name", PAPERS)
def test_nothing_is_wrong_with_the_design(name):
    assert design_problems(load_job(name)) == []


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        (
            "resnet50",
            {
                "epochs": 150,
                "batch_size": 256,
                "optimizer": "momentum",
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 1e-4,
                "decay_all": False,
                "schedule": "multistep",
                "milestones": (60, 100, 140),
                "decay_rate": 0.1,
                "warmup_epochs": 0,
                "label_smoothing": 0.0,
            },
        ),
        (
            "mobilenetv2",
            {
                "epochs": 300,
                "batch_size": 256,
                "optimizer": "momentum",
                "lr": 0.045,
                "momentum": 0.9,
                "weight_decay": 4e-5,
                "decay_all": True,
                "schedule": "step",
                "step_epochs": 1,
                "decay_rate": 0.98,
                "warmup_epochs": 0,
            },
        ),
        (
            "vit_base",
            {
                "epochs": 300,
                "batch_size": 4096,
                "optimizer": "adamw",
                "lr": 3e-3,
                "weight_decay": 0.3,
                "decay_all": True,
                "schedule": "cosine",
                "warmup_epochs": 30,
                "min_lr": 0.0,
                "clip_grad": 1.0,
                "label_smoothing": 0.11,
            },
        ),
        (
            "swin_tiny",
            {
                "epochs": 300,
                "batch_size": 1024,
                "optimizer": "adamw",
                "lr": 1e-3,
                "weight_decay": 0.05,
                "decay_all": False,
                "schedule": "cosine",
                "warmup_epochs": 20,
                "min_lr": 1e-5,
                "clip_grad": 5.0,
                "label_smoothing": 0.1,
            },
        ),
    ],
)
def test_a_recipe_is_the_published_one(name, recipe):
    training = load_job(name).training
    assert {key: getattr(training, key) for key in recipe} == recipe


@pytest.mark.parametrize("name", ["vit_base", "swin_tiny"])
def test_the_moving_average_is_torchvisions_spread_over_every_step(name):
    training = load_job(name).training
    every = 32  # steps
    theirs = 1 - (1 - 0.99998) * training.batch_size * every / training.epochs
    assert training.ema_decay == pytest.approx(theirs ** (1 / every), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "varied"),
    [
        ("resnet50", (None, 0.0, 1, 0.0, 0.0)),
        ("mobilenetv2", (None, 0.0, 1, 0.0, 0.0)),
        ("vit_base", ("rand-m3-n2-p1-inc1", 0.0, 3, 0.2, 1.0)),
        ("swin_tiny", ("trivial", 0.25, 4, 0.8, 1.0)),
    ],
)
def test_images_are_varied_as_published(name, varied):
    ours = load_job(name).augmentation
    assert (ours.policy, ours.erasing, ours.repeats, ours.mixup, ours.cutmix) == varied


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet50", {}),
        ("mobilenetv2", {"drop_rate": 0.2}),
        ("vit_base", {}),
        ("swin_tiny", {"drop_path_rate": 0.1}),
    ],
)
def test_a_backbone_drops_what_is_published(name, kwargs):
    assert load_job(name).backbone.kwargs == kwargs


def test_where_blocks_are_dropped_students_keep_theirs():
    assert load_job("swin_tiny").distillation.stochastic_depth == "super_net"


def test_resnet50_sees_images_as_torchvisions_does():
    seen = describe_preprocessing(load_job("resnet50"))
    assert (seen.interpolation, seen.image_size / seen.crop_pct) == ("bilinear", 256)
