"""Writes weights as safetensors, whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors from any device to a file; one that exists is replaced."""
    partial = path.with_name(f"{path.name}.partial")
    # safetensors refuses tensors that share memory or lie in any order; a contiguous copy does neither.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
