"""Two workers with one thread each against one: throughput, and the bytes that they exchange.

Both processes live through the whole benchmark. In turns both of them step under DDP, only the first one
steps, and both step without exchanging anything: the last says what the machine itself loses when both of its
cores work.

Run:      python -m tests.benchmarks.ddp
Expect:   gradients travel once a step; two workers 1.85 times as fast as one where both cores are free, and
          0.97 times as fast as two that exchange nothing
Takes:    about five minutes on two CPU cores
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from .paired import ROUNDS, Comparison, publish
from .training_step import IMAGE_SIZE, PRECISIONS, RESNET50, OurStep, random_batch

COMMAND = "python -m tests.benchmarks.ddp"
WORKERS = 2
BATCH_SIZE = 32
"""Of one worker; chosen: the published global batch is 256, on many workers."""
WAYS = ("DDP", "alone", "apart")
Rounds = dict[str, list[tuple[float, float]]]
"""Seconds and CPU seconds of the first worker by way, one pair a round."""

_under_ddp = functools.partial(DistributedDataParallel, gradient_as_bucket_view=True)
"""As `build_step_module` asks of Ray Train."""


def main() -> None:
    """Start the workers, read what the first one measured, publish it."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, args=(Path(folder),), nprocs=WORKERS)
        record = torch.load(Path(folder) / "record.pt", weights_only=True)
    comparisons = [pair for precision in PRECISIONS for pair in compared(precision, record[precision])]
    publish(f"{WORKERS} workers under DDP", COMMAND, comparisons, [record["bytes"], CONDITIONS])


CONDITIONS = (
    f"ResNet-50, {BATCH_SIZE} images of {IMAGE_SIZE} pixels a worker, one thread each, gloo over loopback; "
    "times are those of as many images as one worker takes in a step. Apart: both step, nothing is exchanged."
)


def compared(precision: str, rounds: Rounds) -> list[Comparison]:
    """Return throughput under DDP, and without exchange, against that of one worker."""
    other_s, other_cpu_s = zip(*rounds["alone"], strict=True)
    comparisons = []
    for way, label in (("DDP", "2 workers"), ("apart", "2 workers, apart")):
        ours_s, ours_cpu_s = (
            tuple(value / WORKERS for value in values) for values in zip(*rounds[way], strict=True)
        )
        comparisons.append(
            Comparison(f"ResNet-50, {precision}", label, "1 worker", ours_s, other_s, ours_cpu_s, other_cpu_s)
        )
    return comparisons


def work(rank: int, folder: Path) -> None:
    """Measure as one of the workers; the first one writes what came out."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS
    )
    record: dict[str, object] = {"bytes": count_bytes()}
    for precision in PRECISIONS:
        record[precision] = time_in_turns(rank, precision)
    if rank == 0:
        torch.save(record, folder / "record.pt")
    distributed.destroy_process_group()


def count_bytes() -> str:
    """Return a line with the bytes that DDP hands to its reduction in one step, next to a gradient's size."""
    counted: list[int] = []

    def count(group: None, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        counted.append(bucket.buffer().nbytes)
        return default_hooks.allreduce_hook(group, bucket)

    network = RESNET50.network()
    step = OurStep(network, RESNET50.recipe(), _under_ddp)
    step.module.register_comm_hook(None, count)
    step(*random_batch(2))
    counted.clear()  # DDP cuts its buckets anew after the first step
    step(*random_batch(2))
    gradient = sum(parameter.nbytes for parameter in network.parameters())
    return (
        f"Bytes reduced in one step: {sum(counted):,} in {len(counted)} buckets; one gradient: {gradient:,} "
        f"(ratio {sum(counted) / gradient:.3f})."
    )


def time_in_turns(rank: int, precision: str) -> Rounds:
    """Return how long one step of each way took, round by round."""
    recipe, batch = RESNET50.recipe(precision), random_batch(BATCH_SIZE)
    together = OurStep(RESNET50.network(), recipe, _under_ddp)
    single = OurStep(RESNET50.network(), recipe)
    calls: dict[str, Callable[[], object]] = {
        "DDP": lambda: together(*batch),
        "alone": lambda: single(*batch) if rank == 0 else None,
        "apart": lambda: single(*batch),
    }
    rounds: Rounds = {way: [] for way in WAYS}
    for number in range(-1, ROUNDS):  # the first round warms up
        for way in WAYS if number % 2 else reversed(WAYS):
            rounds[way].append(seconds_of_all(calls[way]))
    return {way: times[1:] for way, times in rounds.items()}


def seconds_of_all(call: Callable[[], object]) -> tuple[float, float]:
    """Return how long it takes until every worker has returned from a call, and this one's CPU seconds."""
    distributed.barrier()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    call()
    distributed.barrier()
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


if __name__ == "__main__":
    main()
