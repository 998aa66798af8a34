"""One number for a network, by every objective."""

import pytest
import torch

from pipeline.evaluation.accuracy import Accuracy
from pipeline.evaluation.score import Objective
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.cost import BlockLatencies

ACCURACIES = {"FFFF": 0.9, "FFTT": 0.8, "TTFF": 0.7, "TTTT": 0.6}


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return AdaptiveDepthNetwork.from_timm("resnet18", image_size=32, small_images=True)


@pytest.fixture(scope="module")
def results(network):
    by_letters = {profile.letters: profile for profile in network.profiles}
    return {by_letters[name]: Accuracy(top1, None, 1.0) for name, top1 in ACCURACIES.items()}


@pytest.mark.parametrize(("name", "score"), [("full_accuracy", 0.9), ("base_accuracy", 0.6)])
def test_an_extreme_counts_alone(network, results, name, score):
    assert Objective(name).score(network, results) == score


def test_the_hypervolume_is_the_mean_accuracy_over_all_budgets(network, results):
    whole = network.cost("FFFF").macs
    budgets = torch.linspace(0, 1.25, 100_001).tolist()
    affordable = [(network.cost(name).macs / whole, top1) for name, top1 in ACCURACIES.items()]
    mean = sum(
        max((top1 for macs, top1 in affordable if macs <= budget), default=0.0) for budget in budgets
    ) / len(budgets)
    assert Objective().score(network, results) == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(("within", "score"), [("FFFF", 0.9), ("FFTT", 0.8), ("TTTT", 0.6)])
@pytest.mark.parametrize("limit", ["max_macs", "max_params"])
def test_a_budget_counts_the_best_profile_within_it(network, results, within, score, limit):
    found = network.cost(within)
    objective = Objective(
        "budget", **{limit: {"max_macs": found.macs, "max_params": found.parameters}[limit]}
    )
    assert objective.score(network, results) == score


@pytest.fixture(scope="module")
def latencies(network):
    """The stem takes 4 ms, every block 1 ms."""
    blocks = [block for layout in network.layouts for block in layout.blocks]
    return BlockLatencies(4.0 + len(blocks), dict.fromkeys(blocks, 1.0))


def test_latencies_take_the_place_of_macs_in_the_hypervolume(network, results, latencies):
    objective = Objective(cost="latency", latencies=latencies)
    relative = {profile.letters: objective.relative_cost(network, profile) for profile in results}
    assert relative == {"FFFF": 1.0, "FFTT": 10 / 12, "TTFF": 10 / 12, "TTTT": 8 / 12}
    area = 0.6 * (10 - 8) / 12 + 0.8 * (12 - 10) / 12 + 0.9 * (1.25 - 1)
    assert objective.score(network, results) == pytest.approx(area / 1.25)


@pytest.mark.parametrize(("limit_ms", "score"), [(12.0, 0.9), (11.9, 0.8), (8.0, 0.6), (7.9, 0.0)])
def test_a_budget_in_milliseconds_counts_the_best_profile_within_it(
    network, results, latencies, limit_ms, score
):
    objective = Objective("budget", max_latency_ms=limit_ms, latencies=latencies)
    assert objective.score(network, results) == score


def test_a_limit_in_milliseconds_does_not_change_what_costs_are(network, latencies):
    _, base = network.extremes
    objective = Objective("budget", max_latency_ms=9.0, latencies=latencies)
    assert objective.relative_cost(network, base) == network.macs("base") / network.macs("full")


def test_an_excess_in_milliseconds_is_told(network, latencies):
    objective = Objective("budget", max_latency_ms=7.5, latencies=latencies)
    assert objective.excess(network, network.extremes[1]) == "8 ms (at most 7.5)"


def test_a_budget_below_every_profile_is_worth_nothing_and_the_excess_is_told(network, results):
    objective = Objective("budget", max_macs=1e6, max_params=1e6)
    assert objective.score(network, results) == 0.0
    _, base = network.extremes
    macs, parameters = network.cost(base).macs / 1e9, network.cost(base).parameters / 1e6
    assert objective.excess(network, base) == (
        f"{macs:.4g} GMACs (at most 0.001) and {parameters:.4g} M parameters (at most 1)"
    )
