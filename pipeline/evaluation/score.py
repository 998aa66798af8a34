"""How good a network's curve of accuracy against cost is, in one number."""

from collections.abc import Mapping

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile

from .accuracy import Accuracy
from .pareto import Point, hypervolume


def score_profiles(network: AdaptiveDepthNetwork, results: Mapping[DepthProfile, Accuracy]) -> float:
    """Return the hypervolume of profiles, their cost relative to the most expensive one; in [0, 1]."""
    macs = {profile: network.cost(profile).macs for profile in results}
    largest = max(macs.values())
    return hypervolume([Point(macs[profile] / largest, result.top1) for profile, result in results.items()])
