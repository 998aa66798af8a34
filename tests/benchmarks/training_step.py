"""The networks that training benchmarks run, and one training step of ours, put together as a worker does.

A worker takes it inside Ray Train, on images from a loader; here it stands alone, on one batch that stays in
memory, so that nothing else is timed.

Shapes: B images, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.adaptive import memory_format
from pipeline.recipe import DistillationConfig, TrainingConfig
from pipeline.training.host_memory import keep_freed_memory
from pipeline.training.optimisation import build_criterion, build_optimizer
from pipeline.training.step import SelfDistillation
from pipeline.training.update import Updater

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGE_SIZE, BATCH_SIZE = (224, 128) if DEVICE.type == "cuda" else (128, 16)
"""Large enough that a step of either kind of device is computing, not starting."""
NUM_CLASSES = 1000
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class StepCase:
    """A network with the optimiser that its published recipe uses.

    Attributes:
        name: What to call it in a table.
        backbone: timm's name.
        optimizer: As in a job file.
    """

    name: str
    backbone: str
    optimizer: str

    def network(self) -> AdaptiveDepthNetwork:
        """Build the network in training mode, with the same new weights at every call."""
        torch.manual_seed(0)
        return (
            NetworkDescription(self.backbone, NUM_CLASSES, image_size=IMAGE_SIZE).build().to(DEVICE).train()
        )

    def recipe(self, precision: str = "float32", **settings: Any) -> TrainingConfig:
        """Return training settings; the learning rate is small, for labels that mean nothing."""
        return TrainingConfig(epochs=1, optimizer=self.optimizer, lr=1e-4, precision=precision, **settings)


RESNET50 = StepCase("ResNet-50", "resnet50", "sgd")
VIT_SMALL = StepCase("ViT-S/16", "vit_small_patch16_224", "adamw")
MOBILENET_V2 = StepCase("MobileNetV2", "mobilenetv2_100", "sgd")
CASES = (RESNET50, VIT_SMALL, MOBILENET_V2)


def random_batch(batch_size: int = BATCH_SIZE) -> tuple[Tensor, Tensor]:
    """Return images of noise, shape (B, 3, IMAGE_SIZE, IMAGE_SIZE), and labels, shape (B,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    labels_B = torch.randint(NUM_CLASSES, (batch_size,), generator=generator)
    return images.to(DEVICE), labels_B.to(DEVICE)


class OurStep:
    """Forward, backward and update of both extreme profiles, by the paper's rule with logits alone.

    Args:
        network: The network that learns.
        recipe: How.
        wrap: Called with the loss module, such as to put it under DDP.
    """

    def __init__(
        self,
        network: AdaptiveDepthNetwork,
        recipe: TrainingConfig,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        if DEVICE.type == "cpu":
            keep_freed_memory()
        self._layout = memory_format(network)
        network.to(memory_format=self._layout)
        _, base = network.extremes
        self._students = (base,)
        rule = DistillationConfig(reduction="mean", students="base", student_labels="none", features=0.0)
        step = SelfDistillation(network, rule, build_criterion(recipe, is_smoothed=False))
        self.module = wrap(step)
        self._updater = Updater(
            self.module, step, build_optimizer(network, recipe), recipe, device=DEVICE, world_size=1
        )

    def __call__(self, images: Tensor, labels_B: Tensor) -> Tensor:
        """Take one step on images in any layout; returns the detached loss, shape ()."""
        images = images.to(memory_format=self._layout)
        loss = self._updater.backward([(images, labels_B)], self._students)
        self._updater.apply(0)
        return loss
