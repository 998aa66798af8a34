"""One training step of ours against one step each of two ordinary networks of its two shapes.

Whoever wants the super-net and the base-net without adaptive depth trains two networks. That is the physical
yardstick: the same blocks run, with the same layout, precision, optimiser and kinds of loss.

Run:      python -m tests.benchmarks.step_against_two_networks
Expect:   ours takes no longer than both together (1.0 or above) with bf16; ResNet-50 and MobileNetV2 miss it
          by 4 and 2 % in float32, where the activations of both depths together cost page faults
Takes:    about two minutes on two CPU cores
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.adaptive import memory_format
from pipeline.precision import autocast
from pipeline.recipe import TrainingConfig
from pipeline.training.distillation import distillation_loss
from pipeline.training.optimisation import build_optimizer

from .paired import ROUNDS, Comparison, compare, publish
from .training_step import (
    BATCH_SIZE,
    CASES,
    DEVICE,
    IMAGE_SIZE,
    NUM_CLASSES,
    PRECISIONS,
    OurStep,
    StepCase,
    random_batch,
)

COMMAND = "python -m tests.benchmarks.step_against_two_networks"

Loss = Callable[[Tensor], Tensor]


class PlainStep:
    """Forward, backward and update of one ordinary network.

    Args:
        network: A timm model with weights of its own.
        recipe: Of ours.
        layout: Of images and weights.
        loss: Of logits in float32, shape (B, K).
    """

    def __init__(
        self, network: nn.Module, recipe: TrainingConfig, layout: torch.memory_format, loss: Loss
    ) -> None:
        self._network = network.to(memory_format=layout)
        self._optimizer = build_optimizer(network, recipe)
        self._layout = layout
        self._precision = recipe.precision
        self._loss = loss

    def __call__(self, images: Tensor) -> None:
        """Take one step on images in any layout."""
        images = images.to(memory_format=self._layout)
        with autocast(DEVICE, self._precision):
            loss = self._loss(self._network(images).float())
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def two_steps(case: StepCase, recipe: TrainingConfig, labels_B: Tensor) -> tuple[PlainStep, PlainStep]:
    """Return the steps of a network shaped as the super-net and of one shaped as the base-net.

    The second one learns from logits that are given, so that both sides pay for the same losses.
    """
    network = case.network()
    layout = memory_format(network)
    teacher_BK = torch.randn(len(labels_B), NUM_CLASSES, device=DEVICE)
    losses: dict[str, Loss] = {
        "full": lambda logits_BK: functional.cross_entropy(logits_BK, labels_B),
        "base": lambda logits_BK: distillation_loss(logits_BK, teacher_BK, temperature=1.0).mean(),
    }
    full, base = (
        PlainStep(copy.deepcopy(network.subnetwork(profile)), recipe, layout, loss)
        for profile, loss in losses.items()
    )
    return full, base


def measure(case: StepCase) -> Iterator[Comparison]:
    """Compare in both precisions."""
    images, labels_B = random_batch()
    for precision in PRECISIONS:
        recipe = case.recipe(precision)
        ours = OurStep(case.network(), recipe)
        full, base = two_steps(case, recipe, labels_B)
        yield compare(
            f"{case.name}, {precision}",
            ("both depths of one", lambda ours=ours: ours(images, labels_B)),
            ("two networks", lambda full=full, base=base: (full(images), base(images))),
        )


def main() -> None:
    """Measure all cases and publish them."""
    comparisons = [comparison for case in CASES for comparison in measure(case)]
    notes = [
        f"One step on {BATCH_SIZE} images of {IMAGE_SIZE} pixels, threads: {torch.get_num_threads()}, "
        f"{ROUNDS} rounds."
    ]
    publish("Training step against two separate networks", COMMAND, comparisons, notes)


if __name__ == "__main__":
    main()
