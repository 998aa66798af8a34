"""Accuracies that are counted again, on the images of the job and on others."""

import json
from dataclasses import replace

import pytest
import torch

from pipeline.data.loading import validation_loader
from pipeline.data.plan import prepare_data
from pipeline.data.sources import open_source
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.errors import RequestError
from pipeline.evaluation.evaluate import evaluate_profiles
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.registry.origin import ImageSet, Origin
from pipeline.registry.verification import allowed_difference, verify

DIGITS = "builtin:digits"


@pytest.fixture(scope="module")
def plan():
    return prepare_data(DIGITS, None, validation_fraction=0.2, seed=5, bad_items="fail", max_bad_fraction=0.0)


@pytest.fixture(scope="module")
def digits_network():
    torch.manual_seed(1)
    return AdaptiveDepthNetwork.from_timm(
        "resnet18",
        num_classes=10,
        small_images=True,
        image_size=16,
        channels=[8, 8, 8, 8],
        zero_init_last=False,
    ).eval()


@pytest.fixture(scope="module")
def counted(digits_network, plan, preprocessing):
    transform = eval_transform(Preprocessing.from_dict(preprocessing))
    batches = validation_loader(plan, transform, batch_size=64, rank=0, world_size=1, num_loader_workers=0)
    return evaluate_profiles(digits_network, batches, device=torch.device("cpu"), latency_runs=2)


@pytest.fixture
def register_digits(register, digits_network, plan, counted):
    names = plan.class_names
    origin = Origin(
        "digits",
        {"seed": 5, "data": {"train": DIGITS, "validation": None, "validation_fraction": 0.2}},
        ImageSet.of(plan.train_rows, plan.train_labels, names),
        ImageSet.of(plan.validation_rows, plan.validation_labels, names),
    )

    def call(table=counted):
        return register(network=digits_network, class_names=names, table=table, origin=origin)

    return call


def check(client, data=DIGITS):
    told = []
    found = verify(
        client,
        "models:/net/1",
        data=data,
        device="cpu",
        batch_size=100,
        on_progress=lambda *news: told.append(news),
    )
    assert {what for what, *_ in told} == {"checking images", "counting"}
    return found


def test_the_validation_images_are_found_again_and_every_profile_reaches_the_same(
    client, register_digits, counted, plan
):
    register_digits()
    found = check(client)
    assert (found.are_same, found.num_images) == (True, len(plan.validation_rows))
    assert found.broken == []
    assert [row.registered for row in found.comparisons] == [row.top1 for row in counted.results]
    assert max(abs(row.found - row.registered) for row in found.comparisons) <= 1 / found.num_images


def test_a_table_that_says_too_much_is_found_out(client, register_digits, counted):
    better = replace(counted.results[3], top1=counted.results[3].top1 + 0.01)
    register_digits(replace(counted, results=(*counted.results[:3], better, *counted.results[4:])))
    found = check(client)
    assert [row.profile for row in found.broken] == [better.profile]
    assert found.broken[0].row()[:2] == [better.profile, "differs"]


def test_the_verb_answers_machines_also_where_a_profile_fails(client, register_digits, counted, skipline):
    command = ("verify", "models:/net/1", "--data", DIGITS, "--json")
    register_digits(replace(counted, results=(replace(counted.results[0], top1=1.0), *counted.results[1:])))
    code, printed, errors = skipline(*command)
    assert json.loads(printed) == json.loads(json.dumps(check(client).to_dict()))
    assert (code, errors.count("1 of 16 do not: FFFF")) == (1, 1)


def test_other_images_may_differ_by_chance(client, register_digits, plan, tmp_path):
    source = open_source(DIGITS)
    for row, label in list(zip(plan.train_rows, plan.train_labels, strict=True))[:300]:
        path = tmp_path / "others" / plan.class_names[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.read(row).save(path)
    register_digits()
    found = check(client, str(tmp_path / "others"))
    assert (found.are_same, found.num_images) == (False, 300)
    assert min(row.allowed for row in found.comparisons) > 0.03
    assert found.broken == []


def test_data_without_the_classes_is_refused(client, register):
    register()
    with pytest.raises(RequestError, match="data must show classes that the network knows"):
        check(client, DIGITS)


@pytest.mark.parametrize(
    ("num_images", "are_same", "expected"),
    [(360, True, 1 / 360), (50_000, True, 0.001), (10_000, False, 0.0212)],
)
def test_how_far_two_shares_may_be_apart(counted, num_images, are_same, expected):
    table = replace(counted, num_images=10_000)
    assert allowed_difference(0.5, 0.5, table, num_images, are_same) == pytest.approx(expected, rel=1e-2)
