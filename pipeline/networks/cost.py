"""What a depth profile costs: multiply-adds, parameters, latency.

Multiply-adds are additive over stem, sub-paths and head, so one shape-only pass on the meta device prices all
2^N profiles. Convolutions, linear layers and attention products count, as torch's `FlopCounterMode` does.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from .adaptive import AdaptiveDepthNetwork


@dataclass(frozen=True)
class ProfileCost:
    """Cost of one profile: `macs` multiply-adds for one image, `parameters` of its static sub-network."""

    macs: int
    parameters: int


@dataclass(frozen=True)
class Latency:
    """Time of one call: median and 95th percentile."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class SegmentMacs:
    """Multiply-adds for one image of every segment; `mandatory` and `skippable` have one entry a stage."""

    stem: int
    mandatory: tuple[int, ...]
    skippable: tuple[int, ...]
    head: int


def count_segment_macs(network: "AdaptiveDepthNetwork") -> SegmentMacs:
    """Count the multiply-adds of every segment at the network's image size, without computing anything.

    Raises:
        ValueError: If the backbone cannot take images of that size.
    """
    shapes = _on_meta(network).eval()
    hidden = torch.empty(1, *network.input_shape, device="meta")
    mandatory, skippable = [], []
    try:
        stem, hidden = _count(shapes.forward_stem, hidden)
        for stage in shapes.stages:
            macs, hidden = _count(stage.run_mandatory, hidden)
            mandatory.append(macs)
            macs, hidden = _count(stage.run_skippable, hidden)
            skippable.append(macs)
        head, _ = _count(shapes.forward_head, hidden)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{network.name} cannot take images of {network.image_size} pixels ({error}); "
            "choose another image size"
        ) from error
    return SegmentMacs(stem, tuple(mandatory), tuple(skippable), head)


def _count(segment: Callable[[Tensor], Tensor], hidden: Tensor) -> tuple[int, Tensor]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = segment(hidden)
    return counter.get_total_flops() // 2, output


def _on_meta(network: "AdaptiveDepthNetwork") -> "AdaptiveDepthNetwork":
    """Return a copy of the network with shapes in place of weights; no weight is copied on the way."""
    memo: dict[int, object] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(network, memo)


def measure_latency(module: nn.Module, images: Tensor, *, num_warmup: int = 5, num_runs: int = 30) -> Latency:
    """Measure how long one call of a module takes on the device that `images` is on.

    Args:
        module: A static sub-network in evaluation mode.
        images: The batch of one call.
        num_warmup: Calls that are not counted.
        num_runs: Calls that are counted; chosen, enough for a 95th percentile to mean something.
    """
    times_ms = []
    with torch.inference_mode():
        for run in range(num_warmup + num_runs):
            start = time.perf_counter()
            module(images)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            if run >= num_warmup:
                times_ms.append((time.perf_counter() - start) * 1000)
    return Latency(statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1])
