import pytest

from pipeline.checks.shapes import try_network
from pipeline.config import parse_job
from pipeline.training import plan
from tests.checks.wrong_jobs import changed
from tests.networks.instances import EXEMPLARS, INSTANCES

KEPT = [
    {"backbone.kwargs": {"drop_path_rate": 0.1, "drop_rate": 0.2}},
    {"backbone.kwargs": {"channels": [8, 8, 16, 16]}, "backbone.small_images": True},
    {"distillation.features": 1.0, "augmentation.mixup": 0.2, "training.loss": "bce"},
    {"distillation.students": "sampled", "distillation.student_labels": "none"},
    {"training.batch_size": 1, "data.image_size": 64},
]


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("family", "description"),
    [
        pytest.param(
            family,
            description,
            id=f"{family}-{description.backbone}",
            marks=() if family in EXEMPLARS and not number else pytest.mark.slow,
        )
        for family, descriptions in INSTANCES.items()
        for number, description in enumerate(descriptions)
    ],
)
def test_every_family_is_accepted(family, description):
    changes = {
        "backbone.name": description.backbone,
        "backbone.kwargs": {key: _plain(value) for key, value in description.kwargs.items()},
        "data.image_size": description.image_size or 224,
    }
    network, problems = try_network(parse_job(changed(changes)))
    assert problems == []
    assert type(network.backbone).__name__ == family


@pytest.mark.parametrize("changes", KEPT)
def test_settings_that_train_are_accepted(changes):
    network, problems = try_network(parse_job(changed(changes)))
    assert problems == []
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_the_meta_device_cannot_run_is_not_refused(monkeypatch):
    build = plan.shape_of

    def reading_a_value(job):
        network = build(job)
        network.backbone.fc.register_forward_hook(lambda _, __, logits: logits.sum().item() * logits)
        return network

    monkeypatch.setattr("pipeline.checks.shapes.shape_of", reading_a_value)
    _, problems = try_network(parse_job(changed({})))
    assert problems == []
