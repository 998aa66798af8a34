import pytest

from pipeline.networks import DepthProfile
from pipeline.recipe import DistillationConfig
from pipeline.training.students import StudentSchedule, trained_profiles

PROFILES = DepthProfile.enumerate(3)
BASE = PROFILES[-1]


def _draws(updates=range(200), profiles=PROFILES, seed=0, **rule):
    schedule = StudentSchedule(profiles, DistillationConfig(**rule), seed=seed)
    return [schedule.draw(update) for update in updates]


def test_by_the_papers_rule_the_base_net_alone_learns():
    assert set(_draws(students="base")) == {(BASE,)}


def test_the_depth_beside_the_base_net_is_any_between_the_extremes():
    draws = _draws(students="base_and_sampled", sampled_share=1.0)
    assert {base for base, _ in draws} == {BASE}
    assert {between for _, between in draws} == set(PROFILES[1:-1])


def test_a_single_drawn_depth_may_be_the_base_net_and_never_the_super_net():
    assert {one for (one,) in _draws(students="sampled")} == set(PROFILES[1:])


@pytest.mark.parametrize(("share", "low", "high"), [(0.25, 20, 80), (1.0, 200, 200)])
def test_a_depth_is_drawn_in_a_share_of_the_steps(share, low, high):
    draws = _draws(students="base_and_sampled", sampled_share=share)
    assert low <= sum(len(students) == 2 for students in draws) <= high


def test_an_update_draws_the_same_whenever_it_is_asked():
    rule = {"students": "base_and_sampled"}
    assert _draws([7, 3], **rule) == [_draws(range(8), **rule)[7], _draws(range(8), **rule)[3]]
    assert _draws(seed=1, **rule) != _draws(seed=0, **rule)


def test_a_network_with_one_skippable_stage_has_no_depth_between():
    assert set(_draws(profiles=DepthProfile.enumerate(1), students="sampled")) == {(DepthProfile("T"),)}


@pytest.mark.parametrize(
    ("students", "trained"),
    [("base", (PROFILES[0], BASE)), ("base_and_sampled", PROFILES), ("sampled", PROFILES)],
)
def test_which_profiles_are_trained_follows_from_the_students(students, trained):
    assert trained_profiles(PROFILES, DistillationConfig(students=students)) == trained
