"""Placement groups that nobody uses any more, on a real Ray."""

import time

import pytest
import ray
from ray.util import placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.leftovers import idle_groups, leftover_groups_removed

pytestmark = pytest.mark.usefixtures("ray_cluster")


@ray.remote(num_cpus=1)
class Worker:
    def ready(self):
        return True


@pytest.fixture
def make_group():
    """Makes groups of one CPU; none of other tests is idle before, none is there after."""
    with leftover_groups_removed(interval_s=0.5):
        wait_until(lambda: not idle_groups())
    made = []

    def make():
        made.append(placement_group([{"CPU": 1}]))
        assert made[-1].wait(60)
        return made[-1]

    yield make
    for group in made:
        ray.util.remove_placement_group(group)


def wait_until(is_so):
    deadline_s = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.2)


def state(group):
    return placement_group_table(group)["state"]


def test_a_group_without_an_actor_gives_its_cpus_back_and_one_in_use_stays(make_group):
    left_over, used = make_group(), make_group()
    worker = Worker.options(scheduling_strategy=PlacementGroupSchedulingStrategy(used)).remote()
    assert ray.get(worker.ready.remote())
    assert idle_groups() == {left_over.id.hex()}
    with leftover_groups_removed(interval_s=0.5):
        wait_until(lambda: state(left_over) == "REMOVED")
    assert (state(left_over), state(used)) == ("REMOVED", "CREATED")
    ray.kill(worker)
    with leftover_groups_removed(interval_s=0.5):
        wait_until(lambda: state(used) == "REMOVED")
    assert state(used) == "REMOVED"


def test_a_group_is_not_removed_at_the_first_look(make_group):
    group = make_group()
    with leftover_groups_removed(interval_s=60):
        assert group.id.hex() in idle_groups()
    assert state(group) == "CREATED"
