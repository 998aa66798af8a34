"""A search that begins with what another one has learnt."""

import json
from dataclasses import asdict

import pytest

from pipeline.config import parse_job
from pipeline.errors import RequestError
from pipeline.folder import JobFolder
from pipeline.networks.profiles import StageSize
from pipeline.search.former import former_trials
from pipeline.search.result import TrialResult
from search_spaces import load_space

STAGES = tuple(StageSize(3) for _ in range(4))


def make_job(folder, name="new", *, lr=0.1, image_size=16, **search):
    return parse_job(
        {
            "name": name,
            "data": {"train": "builtin:digits", "image_size": image_size},
            "backbone": {"name": "resnet18", "kwargs": {"layers": [3, 3, 3, 3]}},
            "training": {"epochs": 4, "lr": lr},
            "search": {"space": "splits_only", "epochs": 2, **search},
            "registry": {"model": "tiny"},
            "storage": str(folder),
        }
    )


def trial(number, values, score):
    return TrialResult(f"id{number}", number, 0, values, score, 2, "finished", None, {}, 1.0)


@pytest.fixture
def finished(tmp_path):
    """The folder of a job whose search over splits is over."""
    job = make_job(tmp_path, "old", lr=0.2)
    folder = JobFolder.of(job)
    folder.claim(job)
    trials = [trial(0, {"split": [2, 2, 2, 2]}, 0.5), trial(1, {"split": [1, 2, 1, 2]}, 0.6)]
    result = {"trials": [asdict(one) for one in trials], "importance": {}, "num_dropped": 0, "repeats": []}
    folder.search_result.write_text(json.dumps(result))
    return str(folder.root)


def former(job):
    return former_trials(job, job.search, load_space(job.search.space), STAGES)


def test_trials_come_as_points_of_the_new_space_with_what_their_job_had(tmp_path, finished):
    space = tmp_path / "space.yaml"
    space.write_text(
        "split: {kind: split_points}\ntraining.lr: {kind: float, low: 0.05, high: 0.5, log: true}\n"
    )
    found = former(make_job(tmp_path, space=str(space), warm_start=finished))
    assert [one.name for one in found] == ["old/id0", "old/id1"]
    assert [list(one.scores) for one in found] == [[0.5], [0.6]]
    assert found[1].point == {
        "split/1_of_4": 1,
        "split/2_of_4": 2,
        "split/3_of_4": 1,
        "split/4_of_4": 2,
        "training.lr": 0.2,
    }


def test_trials_outside_the_new_space_are_left_out(tmp_path, finished):
    space = tmp_path / "space.yaml"
    space.write_text("split: {kind: split_ratio, low: 0.2, high: 0.9}\n")
    assert [one.name for one in former(make_job(tmp_path, space=str(space), warm_start=finished))] == [
        "old/id0"
    ]


def test_without_a_former_search_there_is_nothing_to_learn(tmp_path):
    assert former(make_job(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 32}, "'old' has another data; give its best designs as search.start_points"),
        ({"epochs": 3}, "'old' has another search.epochs;"),
        ({"objective": "full_accuracy", "data_fraction": 0.5}, "search.objective, search.data_fraction;"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(tmp_path, finished, changes, message):
    with pytest.raises(RequestError, match=message):
        former(make_job(tmp_path, warm_start=finished, **changes))


def test_a_folder_without_a_finished_search_is_refused(tmp_path):
    with pytest.raises(
        RequestError, match=r"got '.*nowhere', which has no search/result.json; write STORAGE/NAME"
    ):
        former(make_job(tmp_path, warm_start=str(tmp_path / "nowhere")))
