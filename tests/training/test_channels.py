"""What follows from the channels of a network's input, and that grey below 8 bits is enough to learn from."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from pipeline.config import parse_job
from pipeline.data.plan import prepare_data
from pipeline.errors import RequestError
from pipeline.steps import check_policy
from pipeline.storage import StoragePath
from pipeline.training.channels import channel_problems
from pipeline.training.plan import describe_network, describe_preprocessing, describe_teacher, plan_training
from pipeline.training.session import build_train_loader
from pipeline.training.teacher import TeacherPlan
from tests.digits_job import JOB
from tests.grey_images import write_halves


def job_with(*, in_chans=1, **sections):
    kwargs = JOB["backbone"]["kwargs"] | {"in_chans": in_chans}
    given = {"name": "grey", "backbone": JOB["backbone"] | {"kwargs": kwargs}, "registry": {"model": "grey"}}
    return parse_job(JOB | given | sections)


def with_teacher(kwargs, **job):
    teacher = {"name": "vit_tiny_patch16_224", "weights": "teacher.safetensors", "kwargs": kwargs}
    return job_with(distillation={"teacher": teacher}, **job)


@pytest.mark.parametrize("in_chans", [0, 2, 4, True, 1.0, "1", None])
def test_other_channels_than_those_of_grey_and_colours_are_refused(in_chans):
    (problem,) = channel_problems(job_with(in_chans=in_chans))
    assert problem.startswith("backbone.kwargs: in_chans must be 3, images are then read as RGB, or 1,")
    assert f"got {in_chans!r}; leave it out" in problem


@pytest.mark.parametrize(("channels", "its_own"), [(1, 3), (3, 1)])
def test_a_teacher_with_other_channels_is_refused(channels, its_own):
    (problem,) = channel_problems(with_teacher({"in_chans": its_own}, in_chans=channels))
    assert f"got in_chans: {its_own} for one with {channels}; leave it out" in problem


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colours_are_no_problem(channels):
    assert channel_problems(with_teacher({}, in_chans=channels)) == []


def test_grey_is_normalised_by_the_mean_of_the_colours_numbers():
    preprocessing = describe_preprocessing(job_with())
    assert preprocessing.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert preprocessing.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))
    assert describe_preprocessing(job_with(in_chans=3)).mean == (0.485, 0.456, 0.406)


def test_a_teacher_gets_grey_images_as_it_would_normalise_them(tmp_path):
    tiny = {"depth": 1, "embed_dim": 12, "num_heads": 2, "patch_size": 4}
    description = describe_teacher(with_teacher(tiny), num_classes=10)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=8, in_chans=1, **tiny).eval()
    save_file(model.state_dict(), tmp_path / "teacher.safetensors")
    plan = TeacherPlan(description, StoragePath.local(tmp_path / "teacher.safetensors"))
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        found = plan.build(mean=(0.4,), std=(0.2,))((images - 0.4) / 0.2)
        torch.testing.assert_close(found, model((images - 0.5) / 0.5))


def images_in(folder, *, bits, highest):
    """Write images of two classes; in 8 bits, the upper ones of the same values."""
    write_halves(folder, highest=highest, images_a_class=16)
    for path in folder.rglob("*.png") if bits == 8 else ():
        Image.fromarray((np.asarray(Image.open(path)) >> 8).astype(np.uint8)).save(path)
    rule = {"bad_items": "fail", "max_bad_fraction": 0.0}
    return prepare_data(str(folder), None, validation_fraction=0.1, seed=0, channels=1, **rule)


@pytest.mark.parametrize(
    ("bits", "augmentation"), [(16, {"color_jitter": 0.4}), (8, {"policy": "trivial"}), (16, {})]
)
def test_what_can_vary_the_images_of_a_job_is_fine(tmp_path, bits, augmentation):
    check_policy(job_with(augmentation=augmentation), images_in(tmp_path, bits=bits, highest=65535))


def test_a_policy_for_16_bits_is_refused_before_anything_starts(tmp_path):
    job = job_with(augmentation={"policy": "trivial"})
    with pytest.raises(
        RequestError, match=r"policy varies images of 8 bits, got trivial for .*; leave it out"
    ):
        check_policy(job, images_in(tmp_path, bits=16, highest=65535))


@pytest.mark.parametrize(("bits", "share"), [(16, 1.0), (8, 0.5)])
def test_classes_that_differ_below_8_bits_are_learnt_from_16_bits_and_from_no_fewer(tmp_path, bits, share):
    images_in(tmp_path / "images", bits=bits, highest=255).save(tmp_path / "data.npz")
    job = job_with(training={"epochs": 1, "batch_size": 28})
    plan = plan_training(job, StoragePath.local(tmp_path / "data.npz"))
    ((images, labels),) = build_train_loader(plan, rank=0, world_size=1)
    torch.manual_seed(0)
    network = describe_network(job, num_classes=2).build().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert (network(images).argmax(1) == labels).double().mean().item() == share
