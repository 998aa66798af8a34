import pytest
import torch

from pipeline.config import parse_job
from pipeline.networks import AdaptiveDepthNetwork

VIT = {
    "name": "vit_tiny_patch16_224",
    "kwargs": {"patch_size": 4, "depth": 4, "embed_dim": 16, "num_heads": 2},
}


@pytest.fixture
def tiny_job():
    """Makes a job on digits with a ViT of four small blocks and other training settings."""

    def make(**training):
        return parse_job(
            {
                "name": "tiny",
                "data": {
                    "train": "builtin:digits",
                    "image_size": 8,
                    "crop": "none",
                    "flip_probability": 0.0,
                },
                "backbone": VIT,
                "training": {
                    "epochs": 2,
                    "batch_size": 64,
                    "optimizer": "adamw",
                    "lr": 0.003,
                    **training,
                },
                "registry": {"model": "tiny"},
            }
        )

    return make


@pytest.fixture(scope="session")
def tiny_vit():
    """Makes a ViT of small blocks with three classes; equal whenever its depth and stages are."""

    def make(*, depth=8, num_stages=None):
        torch.manual_seed(0)
        return AdaptiveDepthNetwork.from_timm(
            "vit_tiny_patch16_224",
            num_classes=3,
            image_size=8,
            num_stages=num_stages,
            patch_size=4,
            depth=depth,
            embed_dim=8,
            num_heads=1,
        )

    return make
