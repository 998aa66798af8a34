"""The depth of the next batch, decided from states and followed through simulated loads."""

import itertools
import random

import pytest

from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable
from pipeline.following.costs import Costs, measure_costs, percentile
from pipeline.following.policy import (
    HEADROOM,
    FollowingPolicy,
    Load,
    Waiting,
    pareto_profiles,
    worth_choosing,
)

from .simulated_queue import poisson_arrivals, simulate

PROFILES = ("FFFF", "TFFF", "TTFF", "TTTT")
MACS = dict(zip(PROFILES, (200, 140, 90, 50), strict=True))
SIZES = (1, 2, 4, 8)
TARGET_MS = 60.0


def linear(fixed_ms, image_ms):
    """A batch costs a fixed part and a part an image, both in proportion to the multiply-adds."""
    return Costs({p: {n: MACS[p] / 200 * (fixed_ms + image_ms * n) for n in SIZES} for p in PROFILES}, MACS)


CPU = linear(0.0, 20.0)
ACCELERATOR = linear(12.0, 2.0)
CAPACITY = {"cpu": 50.0, "accelerator": 8 / 28 * 1000}
MACHINES = {"cpu": CPU, "accelerator": ACCELERATOR}


def policy_of(costs):
    return FollowingPolicy(PROFILES, costs, TARGET_MS)


def p95(answered):
    return percentile([request.latency_ms for request in answered], 95)


def mean_depth(answered):
    return sum(PROFILES.index(request.profile) for request in answered) / len(answered)


@pytest.mark.parametrize("machine", MACHINES)
def test_below_what_full_can_bear_nearly_all_run_at_full(machine):
    costs = MACHINES[machine]
    answered = simulate(policy_of(costs), costs, poisson_arrivals([(0.3 * CAPACITY[machine], 60)]))
    assert sum(request.profile == "FFFF" for request in answered) > 0.95 * len(answered)
    assert p95(answered) <= TARGET_MS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("load", [0.6, 1.0, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_base_can_bear_is_answered_within_the_target(machine, load, seed):
    costs = MACHINES[machine]
    arrivals = poisson_arrivals([(load * CAPACITY[machine], 60)], seed)
    assert p95(simulate(policy_of(costs), costs, arrivals)) <= TARGET_MS


def test_the_target_is_kept_where_batches_take_longer_by_chance():
    draw = random.Random(3)
    arrivals = poisson_arrivals([(2.0 * CAPACITY["cpu"], 60)])
    answered = simulate(policy_of(CPU), CPU, arrivals, slowdown=lambda _: draw.uniform(0.9, 1.25))
    assert p95(answered) <= TARGET_MS


def test_depth_falls_with_the_load_and_recovers():
    capacity = CAPACITY["cpu"]
    arrivals = poisson_arrivals([(0.3 * capacity, 20), (3 * capacity, 20), (0.3 * capacity, 20)])
    answered = simulate(policy_of(CPU), CPU, arrivals)
    before, during, after = (
        [request for request in answered if start <= request.arrival_ms < start + 20_000]
        for start in (0, 20_000, 40_000)
    )
    assert len(answered) == len(arrivals)
    assert mean_depth(before) < 0.1
    assert mean_depth(during) > 2
    assert mean_depth(after) < 0.2
    assert p95(answered) <= TARGET_MS


def test_beyond_what_base_can_bear_the_base_runs_and_every_request_is_answered():
    arrivals = poisson_arrivals([(6 * CAPACITY["cpu"], 10), (0.3 * CAPACITY["cpu"], 30)])
    answered = simulate(policy_of(CPU), CPU, arrivals)
    overloaded = [request for request in answered if 2_000 < request.arrival_ms < 10_000]
    assert {request.profile for request in overloaded} == {"TTTT"}
    assert len(answered) == len(arrivals)
    assert answered[-1].profile == "FFFF"


def random_load(draw):
    queue = [
        Waiting(draw.choice((1, 1, 2, 5)), draw.uniform(0, 40), draw.choice((None, None, None, *PROFILES)))
        for _ in range(draw.randrange(1, 8))
    ]
    queue.sort(key=lambda waiting: -waiting.age_ms)
    return Load(queue, {None: draw.uniform(0, 150)}, draw.uniform(0.8, 1.5))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("worse", ["longer", "longer unread", "older", "busier", "slower"])
def test_a_deeper_profile_is_never_chosen_for_a_worse_state(machine, worse):
    policy, draw = policy_of(MACHINES[machine]), random.Random(11)
    for _ in range(300):
        load = random_load(draw)
        queue = list(load.queue)
        states = {
            "longer": Load([*queue, Waiting(1, 0.0)], load.images_per_s, load.pace),
            "longer unread": Load(queue, load.images_per_s, load.pace, [Waiting(1, 0.0)]),
            "older": Load(
                [Waiting(w.num_images, w.age_ms + 5, w.profile) for w in queue], load.images_per_s, load.pace
            ),
            "busier": Load(queue, {None: load.images_per_s[None] + 10}, load.pace),
            "slower": Load(queue, load.images_per_s, load.pace * 1.2),
        }
        chosen, then = policy.deepest(load), policy.deepest(states[worse])
        assert PROFILES.index(then) >= PROFILES.index(chosen)


def test_a_batch_has_one_profile_and_leaves_out_who_asks_for_another():
    queue = [Waiting(1, 9.0, "FFFF"), Waiting(1, 8.0), Waiting(1, 7.0, "FFFF")]
    batch = policy_of(ACCELERATOR).next_batch(Load(queue, {}))
    assert (batch.profile, batch.places) == ("FFFF", (0, 2))


def test_who_asks_for_a_profile_gets_it_however_long_the_queue():
    queue = [Waiting(1, 500.0, "FFFF"), *(Waiting(1, 400.0) for _ in range(100))]
    assert policy_of(CPU).next_batch(Load(queue, {None: 1000.0})).profile == "FFFF"


def test_a_request_of_many_images_is_never_divided():
    batch = policy_of(CPU).next_batch(Load([Waiting(50, 0.0), Waiting(1, 0.0)], {}))
    assert (batch.profile, batch.places) == ("TTTT", (0,))


def test_what_fits_exactly_in_the_plan_is_fit():
    policy = policy_of(CPU)
    age_ms = HEADROOM * TARGET_MS - 20
    assert policy.deepest(Load([Waiting(1, age_ms)], {})) == "FFFF"
    assert policy.deepest(Load([Waiting(1, age_ms + 0.001)], {})) == "TFFF"


@pytest.mark.parametrize(("num_images", "cost_ms"), [(1, 14.0), (2, 16.0), (3, 18.0), (8, 28.0), (16, 56.0)])
def test_costs_lie_on_the_line_between_measured_ones_and_in_proportion_beyond(num_images, cost_ms):
    assert ACCELERATOR.batch_ms("FFFF", num_images) == pytest.approx(cost_ms)


def test_a_profile_that_was_not_measured_costs_by_its_multiply_adds():
    costs = Costs({"FFFF": {1: 20.0}, "TTTT": {1: 6.0}}, {"FFFF": 200, "FTFF": 150, "TTTT": 50})
    assert costs.batch_ms("FTFF", 1) == pytest.approx(15.0)


def test_a_batch_is_as_large_as_pays_within_its_limit():
    assert CPU.best_batch("FFFF", 1000) == 1
    assert ACCELERATOR.best_batch("FFFF", 1000) == 8
    assert ACCELERATOR.best_batch("FFFF", 20) == 4
    assert ACCELERATOR.best_batch("FFFF", 1) == 1


def test_measured_costs_never_fall_with_the_number_of_images():
    told = []
    costs = measure_costs(lambda *_: None, MACS, list(PROFILES), lambda *done: told.append(done))
    for profile in PROFILES:
        row = list(costs.measured_ms[profile].values())
        assert all(a <= b for a, b in itertools.pairwise(row))
    assert told[-1] == (20, 20)


def row(profile, top1, is_pareto):
    return ProfileResult(profile, False, top1, None, 1.0, MACS[profile], 1, 1.0, 1.0, is_pareto=is_pareto)


def test_a_dominated_profile_and_one_that_is_no_quicker_here_are_never_chosen():
    rows = (row("FFFF", 0.9, True), row("TFFF", 0.6, False), row("TTFF", 0.8, True), row("TTTT", 0.7, True))
    table = ProfileTable(rows, 10, LatencyConditions("cpu", 1, 1, "float32"))
    assert pareto_profiles(table) == ["FFFF", "TTFF", "TTTT"]
    costs = Costs({"FFFF": {1: 9.0}, "TTFF": {1: 9.5}, "TTTT": {1: 4.0}}, MACS)
    assert worth_choosing(table, costs) == ["FFFF", "TTTT"]
