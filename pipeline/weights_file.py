"""Writes weights as safetensors."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors from any device to a file."""
    # safetensors refuses tensors that share memory or lie in any order; a contiguous copy does neither.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, path)
