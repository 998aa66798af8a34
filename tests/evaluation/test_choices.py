import json

import pytest

from pipeline.evaluation.choices import describe_images, made_choices
from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable

NOTHING = {"trials": 0, "epochs": 1, "averages": False, "statistics": 1}


@pytest.fixture
def table():
    row = ProfileResult("F", True, 0.5, None, 1.0, 2, 1, 1.0, 2.0, is_pareto=True)
    return ProfileTable((row,), 360, LatencyConditions("cpu", 2, 1, "float32"))


@pytest.mark.parametrize(
    ("facts", "choices"),
    [
        ({}, ()),
        ({"trials": 1}, ()),
        ({"trials": 2}, ("trial",)),
        ({"epochs": 2}, ("epoch",)),
        ({"averages": True}, ("average",)),
        ({"statistics": 2}, ("statistics",)),
        (
            {"trials": 9, "epochs": 9, "averages": True, "statistics": 2},
            ("trial", "epoch", "average", "statistics"),
        ),
    ],
)
def test_images_chose_where_there_was_more_than_one_to_choose_from(facts, choices):
    assert made_choices(**NOTHING | facts) == choices


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (None, "may also have chosen the trial, the epoch and the norm statistics"),
        ((), "chose nothing"),
        (("epoch",), "also chose the epoch"),
        (("epoch", "statistics"), "also chose the epoch and the norm statistics"),
        (
            ("trial", "epoch", "average", "statistics"),
            "also chose the trial, the epoch, the averaging of weights and the norm statistics",
        ),
    ],
)
def test_words_name_the_choices_that_were_made_and_no_other(choices, words):
    assert describe_images("360 validation images", choices) == f"360 validation images that {words}"


@pytest.mark.parametrize("choices", [None, (), ("trial", "epoch")])
def test_a_table_keeps_what_its_images_chose(table, choices):
    written = ProfileTable(table.results, table.num_images, table.latency, choices=choices)
    assert ProfileTable.from_json(written.to_json()) == written


def test_a_table_of_an_earlier_release_says_what_may_have_been_chosen(table):
    values = json.loads(table.to_json())
    del values["choices"]
    earlier = ProfileTable.from_json(json.dumps(values))
    assert earlier.images == (
        "360 validation images that may also have chosen the trial, the epoch and the norm statistics"
    )


def test_every_form_of_a_table_says_what_its_images_chose(table):
    chosen = ProfileTable(table.results, table.num_images, table.latency, choices=("epoch",))
    for text in (str(chosen), chosen.to_markdown(), chosen._repr_html_()):
        assert "top-1 on 360 validation images that also chose the epoch; latency on cpu" in text
