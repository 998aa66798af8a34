"""One number for a network, by every objective."""

import pytest
import torch

from pipeline.evaluation.accuracy import Accuracy
from pipeline.evaluation.score import Objective
from pipeline.networks import AdaptiveDepthNetwork

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


def test_a_budget_below_every_profile_is_worth_nothing_and_the_excess_is_told(network, results):
    objective = Objective("budget", max_macs=1e6, max_params=1e6)
    assert objective.score(network, results) == 0.0
    _, base = network.extremes
    macs, parameters = network.cost(base).macs / 1e9, network.cost(base).parameters / 1e6
    assert objective.excess(network, base) == (
        f"{macs:.4g} GMACs (at most 0.001) and {parameters:.4g} M parameters (at most 1)"
    )
