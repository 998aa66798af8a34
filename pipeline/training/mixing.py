"""Mixup and cutmix by timm: images of a batch are blended, and their labels become shares of classes.

Shapes: B images, C classes.
"""

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor

from pipeline.data.random_state import mix_seed
from pipeline.recipe import AugmentationConfig

_SEEDS = 2**32
"""numpy takes seeds below this."""


class BatchMixer:
    """Mixes the images of every batch.

    A worker mixes its own images with one another, so with mixing the number of workers changes a training.

    Args:
        augmentation: Which of both, and how strongly.
        num_classes: C.
        label_smoothing: Of the targets, in [0, 1).
        seed: What is drawn follows from it.
    """

    def __init__(
        self, augmentation: AugmentationConfig, *, num_classes: int, label_smoothing: float, seed: int
    ) -> None:
        self._seed = seed
        self._mix = Mixup(
            mixup_alpha=augmentation.mixup,
            cutmix_alpha=augmentation.cutmix,
            prob=augmentation.mix_probability,
            switch_prob=augmentation.cutmix_probability,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels_B: Tensor, *, draw: int) -> tuple[Tensor, Tensor]:
        """Return mixed images and their targets.

        Args:
            images: Shape (B, channels, height, width), B even; changed in place.
            labels_B: Labels.
            draw: Number of the batch in the run; the same one is mixed in the same way.

        Returns:
            The images, and float32 shares of the classes, shape (B, C).
        """
        before = np.random.get_state()
        np.random.seed(mix_seed(self._seed, draw) % _SEEDS)
        try:
            mixed, targets_BC = self._mix(images, labels_B)
        finally:
            np.random.set_state(before)
        return mixed, targets_BC.to(torch.float32)
