import pytest

from pipeline.evaluation.pareto import Point, hypervolume, pareto_front


def test_a_point_is_on_the_front_unless_another_is_as_cheap_and_as_good_and_better_in_one():
    points = [Point(1.0, 0.9), Point(0.8, 0.9), Point(0.5, 0.7), Point(0.6, 0.6), Point(0.4, 0.2)]
    assert pareto_front(points) == [False, True, True, False, True]


def test_equal_points_are_both_on_the_front():
    assert pareto_front([Point(1.0, 0.5), Point(1.0, 0.5)]) == [True, True]


def test_the_hypervolume_of_two_points_is_the_area_computed_by_hand():
    # 0.6 from cost 0.5 to 1.0, then 0.8 up to the reference at 1.25
    assert hypervolume([Point(1.0, 0.8), Point(0.5, 0.6)]) == pytest.approx((0.5 * 0.6 + 0.25 * 0.8) / 1.25)


def test_a_dominated_point_adds_nothing():
    front = [Point(1.0, 0.8), Point(0.5, 0.6)]
    assert hypervolume([*front, Point(0.9, 0.55)]) == hypervolume(front)


@pytest.mark.parametrize("better", [Point(0.4, 0.6), Point(0.5, 0.7)])
def test_a_cheaper_or_better_profile_raises_the_hypervolume(better):
    assert hypervolume([Point(1.0, 0.8), better]) > hypervolume([Point(1.0, 0.8), Point(0.5, 0.6)])


@pytest.mark.parametrize(("points", "area"), [([], 0.0), ([Point(2.0, 1.0)], 0.0), ([Point(0.0, 1.0)], 1.0)])
def test_the_hypervolume_stays_between_nothing_and_everything(points, area):
    assert hypervolume(points) == area
