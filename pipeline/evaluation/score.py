"""How good a network's curve of accuracy against cost is, in one number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.cost import BlockLatencies

from .accuracy import Accuracy
from .pareto import Point, hypervolume

ObjectiveName = Literal["hypervolume", "full_accuracy", "base_accuracy", "budget"]
CostName = Literal["macs", "latency"]


@dataclass(frozen=True)
class Objective:
    """What makes one network better than another; scores are in [0, 1].

    Attributes:
        name: `hypervolume` of accuracy and relative MACs over all profiles; the accuracy of one extreme; or,
            with `budget`, of the best profile that costs no more than the limits.
        max_macs: Of a profile within the budget, for one image; None is no limit.
        max_params: Of a profile within the budget; None is no limit.
        max_latency_ms: Of a profile within the budget; None is no limit.
        cost: What `relative_cost` and with it the hypervolume go by; `latency` needs `latencies`.
        latencies: Of the backbone; without them the limit in milliseconds does not count.
    """

    name: ObjectiveName = "hypervolume"
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None
    cost: CostName = "macs"
    latencies: BlockLatencies | None = None

    def score(self, network: AdaptiveDepthNetwork, results: Mapping[DepthProfile, Accuracy]) -> float:
        """Return the score of a network whose profiles reached these results, both extremes among them."""
        full, base = (results[profile].top1 for profile in network.extremes)
        match self.name:
            case "full_accuracy":
                return full
            case "base_accuracy":
                return base
            case "budget":
                within = [result.top1 for profile, result in results.items() if self.admits(network, profile)]
                return max(within, default=0.0)
            case "hypervolume":
                return hypervolume(
                    [
                        Point(self.relative_cost(network, profile), result.top1)
                        for profile, result in results.items()
                    ]
                )

    def relative_cost(self, network: AdaptiveDepthNetwork, profile: DepthProfile) -> float:
        """Return what a profile costs, as a share of the super-net's cost."""
        full, _ = network.extremes
        if self.cost == "latency" and self.latencies is not None:
            return self.latencies.of(network.left_out(profile)) / self.latencies.whole_ms
        return network.macs(profile) / network.macs(full)

    def admits(self, network: AdaptiveDepthNetwork, profile: DepthProfile) -> bool:
        """Return whether a profile is within the budget."""
        return not self.excess(network, profile)

    def excess(self, network: AdaptiveDepthNetwork, profile: DepthProfile) -> str:
        """Return by what a profile exceeds the budget, nothing if it does not."""
        cost = network.cost(profile)
        costs: tuple[tuple[str, float, float, float | None], ...] = (
            ("GMACs", 1e9, cost.macs, self.max_macs),
            ("M parameters", 1e6, cost.parameters, self.max_params),
        )
        if self.latencies is not None:
            latency_ms = self.latencies.of(network.left_out(profile))
            costs = (*costs, ("ms", 1, latency_ms, self.max_latency_ms))
        return " and ".join(
            f"{value / unit:.4g} {name} (at most {limit / unit:.4g})"
            for name, unit, value, limit in costs
            if limit is not None and value > limit
        )
