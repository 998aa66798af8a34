"""One update of the weights on one worker: forward, backward, reduce, clip, step, average.

Nothing here waits for the device, but for what a gradient scaler (fp16) has to know.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from timm.utils import ModelEmaV3
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, distributed, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pipeline.networks import DepthProfile
from pipeline.networks.backbone import classifiers
from pipeline.networks.single_depth import Network
from pipeline.precision import autocast
from pipeline.recipe import TrainingConfig

from .step import SelfDistillation
from .supervised import SupervisedStep

Step = SelfDistillation | SupervisedStep
"""What computes the loss of a batch."""

Part = tuple[Tensor, Tensor]
"""Images of shape (B, channels, height, width), and labels (B,) or shares of the classes (B, classes)."""


class Updater:
    """Updates the weights from batches.

    Args:
        step_module: The step, compiled or wrapped for several workers where the recipe says so.
        step: The same, bare.
        optimizer: Over its parameters.
        recipe: How to train.
        device: Where this worker computes.
        world_size: Number of workers.
    """

    def __init__(
        self,
        step_module: nn.Module,
        step: Step,
        optimizer: Optimizer,
        recipe: TrainingConfig,
        *,
        device: torch.device,
        world_size: int,
    ) -> None:
        self._step_module = step_module
        self._step = step
        self._optimizer = optimizer
        self._recipe = recipe
        self._device = device
        self._world_size = world_size
        self.scaler = GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.ema: ModelEmaV3 | None = (
            None
            if recipe.ema_decay is None
            else ModelEmaV3(step.network, decay=recipe.ema_decay, use_warmup=True)
        )

    def backward(self, parts: Sequence[Part], students: Sequence[DepthProfile]) -> Tensor:
        """Give every parameter the gradient of a batch, the mean over all workers.

        Args:
            parts: Of the batch, one after the other; this worker's shares of them.
            students: Depths that learn from the super-net.

        Returns:
            This worker's part of the loss, detached; shape (). Its mean over the workers is the batch's loss.
        """
        losses = []
        for number, (images, targets) in enumerate(parts, start=1):
            with self._reducing(is_last=number == len(parts)):
                # Gradients are averaged over workers, whose shares may differ by a few images.
                share = len(images) * self._world_size / self._recipe.batch_size
                losses.append(self._backward_part(images, targets, students, share=share))
        if self._recipe.passes == "sequential":
            reduce_gradients(self._step.network, world_size=self._world_size)
        return torch.stack(losses).sum()

    def apply(self, update: int) -> None:
        """Clip the gradients, step the optimiser, forget the gradients, follow with the average.

        Args:
            update: Number of this update in the run, from 0.
        """
        if self._recipe.clip_grad is not None:
            self.scaler.unscale_(self._optimizer)
            dispatch_clip_grad(
                clipped_parameters(self._step.network, self._recipe.clip_mode),
                self._recipe.clip_grad,
                mode=self._recipe.clip_mode,
            )
        self.scaler.step(self._optimizer)
        self.scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self._step.network, step=update + 1)

    def _backward_part(
        self, images: Tensor, targets: Tensor, students: Sequence[DepthProfile], *, share: float
    ) -> Tensor:
        def backward(loss: Tensor) -> None:
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]

        with autocast(self._device, self._recipe.precision):
            if self._recipe.passes == "sequential":
                return self._step.backward_in_turns(images, targets, students, backward) * share
            loss = cast(Tensor, self._step_module(images, targets, students))
        backward(loss)
        return loss.detach() * share

    def _reducing(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Reduce gradients over the workers once a batch: with its last part."""
        if is_last or not isinstance(self._step_module, DistributedDataParallel):
            return nullcontext()
        return cast(AbstractContextManager[None], self._step_module.no_sync())


def clipped_parameters(network: Network, mode: str) -> list[nn.Parameter]:
    """Return the parameters whose gradients are clipped: all, but for the classifier's in mode `agc`.

    Source: Brock et al. 2021, arXiv:2102.06171, section 4.1: all weights but the final linear layer's.
    """
    if mode != "agc":
        return list(network.parameters())
    spared = {id(weight) for layer in classifiers(network.backbone) for weight in layer.parameters()}
    return [weight for weight in network.parameters() if id(weight) not in spared]


def reduce_gradients(module: nn.Module, *, world_size: int) -> None:
    """Replace all gradients by their mean over the workers, in one reduction."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world_size
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))
