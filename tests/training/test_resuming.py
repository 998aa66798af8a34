"""Which checkpoint a run goes on from, and under which name it stores the next."""

import pytest
from ray.train import Checkpoint

from pipeline.training.resuming import newest_first
from pipeline.training.uploading import Stored, checkpoint_name, free_name


def test_the_newest_checkpoint_comes_first_whatever_its_score():
    stored = [
        Stored(Checkpoint(f"/run/{name}"), *order)
        for name, *order in [
            ("a", 3, 0, 30),
            ("b", 5, 0, 50),
            ("c", 4, 0, 45),
            ("d", 4, 0, 40),
            ("e", 4, 9, 35),
        ]
    ]
    assert [one.folder.name for one in newest_first(stored)] == ["b", "e", "c", "d", "a"]


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        (set(), "checkpoint_0003"),
        ({"checkpoint_0002"}, "checkpoint_0003"),
        ({"checkpoint_0003"}, "checkpoint_0003.2"),
        ({"checkpoint_0003", "checkpoint_0003.2", "checkpoint_0001"}, "checkpoint_0003.3"),
    ],
)
def test_a_refused_checkpoint_is_never_overwritten(taken, name):
    assert free_name(checkpoint_name(3), taken) == name


def test_names_sort_by_progress():
    names = [
        checkpoint_name(2),
        checkpoint_name(2, updates=9),
        checkpoint_name(2, updates=120),
        checkpoint_name(3),
    ]
    assert sorted(names) == names
