"""What a depth profile costs: multiply-adds, parameters, latency.

Multiply-adds are additive over stem, sub-paths and head, so one shape-only pass on the meta device prices all
2^N profiles. Convolutions, linear layers and attention products count, as torch's `FlopCounterMode` does.
"""

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .families import State
from .meta import on_meta

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
class BlockLatencies:
    """Times of one call of a backbone and of each of its blocks, in milliseconds.

    A depth that leaves blocks out takes their times less, so this prices every depth of every split.

    Attributes:
        whole_ms: Of the super-net.
        blocks_ms: By dotted path in the backbone.
    """

    whole_ms: float
    blocks_ms: Mapping[str, float]

    def of(self, left_out: Iterable[str]) -> float:
        """Return the milliseconds of a call that leaves blocks out."""
        return self.whole_ms - sum(self.blocks_ms[block] for block in left_out)


@dataclass(frozen=True)
class SegmentMacs:
    """Multiply-adds for one image of every segment (stem, stages, head), in its whole and skipped form."""

    whole: tuple[int, ...]
    skipped: tuple[int, ...]


def count_segment_macs(network: "AdaptiveDepthNetwork") -> SegmentMacs:
    """Count the multiply-adds of every segment at the network's image size, without computing anything."""
    shapes = on_meta(network).eval()
    state: State = torch.empty(1, *network.input_shape, device="meta")
    whole, skipped = [], []
    for segment in range(network.num_segments):
        paths = network.paths(segment)
        macs, _ = _count(functools.partial(shapes.run_segment, segment, state, paths[-1]))
        skipped.append(macs)
        macs, state = _count(functools.partial(shapes.run_segment, segment, state, paths[0]))
        whole.append(macs)
    return SegmentMacs(tuple(whole), tuple(skipped))


def _count(segment: Callable[[], State]) -> tuple[int, State]:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        state = segment()
    return counter.get_total_flops() // 2, state


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


def measure_block_latencies(
    network: "AdaptiveDepthNetwork", images: Tensor, *, num_warmup: int = 5, num_runs: int = 30
) -> BlockLatencies:
    """Measure how long the super-net and every block of its stages take; medians.

    On a GPU every block is waited for, so that its time is its own; that adds to the whole as well.

    Args:
        network: In evaluation mode, on the device of `images`.
        images: The batch of one call.
        num_warmup: Calls that are not counted.
        num_runs: Calls that are counted.
    """
    times_ms: dict[str, list[float]] = defaultdict(list)
    starts_s: dict[str, float] = {}

    def now_s() -> float:
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        return time.perf_counter()

    def begin(path: str) -> None:
        starts_s[path] = now_s()

    def end(path: str) -> None:
        times_ms[path].append((now_s() - starts_s[path]) * 1000)

    whole = ""
    handles = []
    for path in (block for layout in network.layouts for block in layout.blocks):
        block = network.backbone.get_submodule(path)
        handles.append(block.register_forward_pre_hook(lambda *_, path=path: begin(path)))
        handles.append(block.register_forward_hook(lambda *_, path=path: end(path)))
    try:
        with torch.inference_mode():
            for _ in range(num_warmup + num_runs):
                begin(whole)
                network.backbone(images)
                end(whole)
    finally:
        for handle in handles:
            handle.remove()
    medians = {path: statistics.median(times[num_warmup:]) for path, times in times_ms.items()}
    return BlockLatencies(medians.pop(whole), medians)
