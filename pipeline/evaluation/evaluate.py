"""The whole profile table of one network: accuracy, cost and latency of every depth."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.cost import Latency, measure_latency

from .accuracy import Accuracy, Watch, accuracies, count_profiles
from .conditions import PRECISION, latency_conditions
from .pareto import Point, pareto_front
from .table import ProfileResult, ProfileTable, Statistics, Weights


@dataclass(frozen=True)
class Reached:
    """A network and what all of its profiles reach on the same images.

    Attributes:
        network: In evaluation mode.
        accuracies: By profile, `full` first and `base` last.
        num_images: How many images were counted.
        statistics: What its norms normalise by.
    """

    network: AdaptiveDepthNetwork
    accuracies: Mapping[DepthProfile, Accuracy]
    num_images: int
    statistics: Statistics = "training"

    @property
    def mean_top1(self) -> float:
        """The mean over all profiles; unlike the hypervolume it counts those that another one dominates."""
        return fmean(accuracy.top1 for accuracy in self.accuracies.values())


def reach(
    network: AdaptiveDepthNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
    statistics: Statistics = "training",
    watch: Watch | None = None,
) -> Reached:
    """Count what all 2^N profiles of a network reach.

    Args:
        network: On `device`; left in evaluation mode.
        batches: Validation images of shape (B, channels, height, width) with labels of shape (B,).
        device: Where to compute.
        statistics: What its norms normalise by.
        watch: Is shown every batch as it was answered.

    Raises:
        ValueError: If there is no image.
    """
    network.eval()
    totals = count_profiles(
        network, batches, network.profiles, device=device, precision=PRECISION, watch=watch
    )
    reached = accuracies(totals, network.profiles, num_classes=network.description.num_classes)
    return Reached(network, reached, int(totals[0, 3]), statistics)


def evaluate_profiles(
    network: AdaptiveDepthNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | None = None,
    trained: Collection[DepthProfile] | None = None,
    weights: Weights = "latest",
    latency_batch_size: int = 1,
    latency_runs: int = 30,
    on_latency: Callable[[int], None] | None = None,
) -> ProfileTable:
    """Measure all 2^N profiles of a network.

    Args:
        network: Left in evaluation mode.
        batches: Validation images of shape (B, channels, height, width) with labels of shape (B,).
        device: Where accuracies and latencies are measured; None is where the network is.
        trained: Profiles that training saw; None is the extremes.
        weights: Which weights of the training the network has.
        latency_batch_size: Images of one timed call.
        latency_runs: Timed calls a profile, at least 2.
        on_latency: Told how many profiles have been timed.

    Raises:
        ValueError: If there is no validation image.
    """
    place = next(network.parameters()).device if device is None else device
    return tabulate(
        reach(network.to(place), batches, device=place),
        device=place,
        trained=trained,
        weights=weights,
        latency_batch_size=latency_batch_size,
        latency_runs=latency_runs,
        on_latency=on_latency,
    )


def tabulate(
    reached: Reached,
    *,
    device: torch.device,
    trained: Collection[DepthProfile] | None = None,
    weights: Weights = "latest",
    latency_batch_size: int = 1,
    latency_runs: int = 30,
    on_latency: Callable[[int], None] | None = None,
) -> ProfileTable:
    """Add cost and latency to what profiles reach; arguments as for `evaluate_profiles`."""
    network = reached.network
    seen = network.extremes if trained is None else trained
    profiles = network.profiles
    images = torch.rand(latency_batch_size, *network.input_shape, device=device)
    latencies: dict[DepthProfile, Latency] = {}
    for profile in profiles:
        latencies[profile] = measure_latency(network.subnetwork(profile), images, num_runs=latency_runs)
        if on_latency:
            on_latency(len(latencies))
    costs = {profile: network.cost(profile) for profile in profiles}
    front = pareto_front(
        [Point(costs[profile].macs, reached.accuracies[profile].top1) for profile in profiles]
    )
    results = tuple(
        ProfileResult(
            profile=str(profile),
            trained=profile in seen,
            top1=reached.accuracies[profile].top1,
            top5=reached.accuracies[profile].top5,
            loss=reached.accuracies[profile].loss,
            macs=costs[profile].macs,
            parameters=costs[profile].parameters,
            latency_p50_ms=latencies[profile].p50_ms,
            latency_p95_ms=latencies[profile].p95_ms,
            is_pareto=is_pareto,
        )
        for profile, is_pareto in zip(profiles, front, strict=True)
    )
    return ProfileTable(
        results,
        reached.num_images,
        latency_conditions(device, latency_batch_size),
        weights,
        reached.statistics,
    )
