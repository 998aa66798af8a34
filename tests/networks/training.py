"""Stands in for some training where weights as they are initialised would hide a mistake."""

import torch

from pipeline.networks import AdaptiveDepthNetwork


@torch.no_grad()
def as_after_some_training(network: AdaptiveDepthNetwork) -> AdaptiveDepthNetwork:
    """Make no two norms alike and nothing zero, so that no two profiles agree; in evaluation mode."""
    for parameter in network.parameters():
        if parameter.ndim <= 1:
            parameter.uniform_(0.5, 1.5)
        elif parameter.abs().mean() < 0.005:
            parameter.normal_(std=0.05)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var", "running_rms")):
            buffer.uniform_(0.5, 1.5)
    return network.eval()
