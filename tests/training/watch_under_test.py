"""Three steps of one of two workers under a health watch; run as a script, says why it stopped.

Arguments: rank, file in which the workers meet, and what goes wrong in the second step of rank 1: `images`
that are not finite, or a `loss` that is infinite though its gradient is finite.
"""

import math
import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.recipe import DistillationConfig
from pipeline.training.divergence import DivergenceError
from pipeline.training.health import HealthWatch
from pipeline.training.reading import Position
from pipeline.training.step import SelfDistillation

NUM_STEPS = 3


def main(rank: int, meeting: str, fault: str) -> None:
    """Train until the watch stops it."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(0)
    network = AdaptiveDepthNetwork.from_timm(
        "resnet18", num_classes=3, image_size=16, small_images=True, channels=[4, 4, 4, 4]
    )
    step_module = DistributedDataParallel(
        SelfDistillation(network, DistillationConfig(), nn.CrossEntropyLoss(reduction="none"))
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    watch = HealthWatch(
        network,
        optimizer,
        device=torch.device("cpu"),
        rank=rank,
        world_size=2,
        board=None,
        precision="float32",
    )
    try:
        for step in range(1, NUM_STEPS + 1):
            is_bad = rank == 1 and step == 2
            images = torch.rand(4, 3, 16, 16) * (math.nan if is_bad and fault == "images" else 1.0)
            watch.start_step(Position(1, step, NUM_STEPS), [images])
            loss = step_module(images, torch.tensor([0, 1, 2, 0]), network.extremes[1:])
            loss.backward()
            watch.check(loss.detach() * (math.inf if is_bad and fault == "loss" else 1.0))
            optimizer.step()
            optimizer.zero_grad()
        watch.settle()
    except DivergenceError as error:
        sys.stdout.write(str(error))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
