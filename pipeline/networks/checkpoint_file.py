"""Reads a checkpoint that someone else wrote, without executing anything in it."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from timm.models import load_state_dict
from torch import Tensor

from .misfit import NUM_SHOWN, PretrainedError

OWN_PREFIXES = ("backbone.", "skip_norms.", "path_statistics.")
"""Every key of an adaptive depth network's own checkpoint starts with one of these."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the weights in a safetensors or torch file, under the names that timm's filters know.

    As in timm, EMA weights come first, `state_dict` or `model` may hold the weights, and the prefixes of
    DDP and `torch.compile` are removed. Of an adaptive depth network's checkpoint, the super-net is read.

    Args:
        path: Ends in `.safetensors`, or is what `torch.save` wrote.

    Raises:
        PretrainedError: If there is no such file, it is of another kind, or it holds more than tensors and
            plain data.
    """
    if not path.is_file():
        raise PretrainedError(
            f"pretrained must be true or the path of a checkpoint, got {str(path)!r}, which is no file; "
            "correct the path, or write true for timm's own weights"
        )
    try:
        weights = _without_own_prefix(load_state_dict(str(path), weights_only=True))
    except Exception as error:
        raise _refusal(path, _cause(path, error)) from error
    if not weights:
        raise _refusal(path, "holds none")
    return weights


def _refusal(path: Path, cause: str) -> PretrainedError:
    return PretrainedError(
        f"a checkpoint must be a safetensors or torch file of tensors, and nothing else is ever unpickled; "
        f"{path} {cause}; where you trust the file, load it yourself and write its state_dict() with "
        "safetensors or torch.save"
    )


def _cause(path: Path, error: Exception) -> str:
    if not isinstance(error.__cause__, UnpicklingError):
        return f"cannot be read ({summary(error)})"
    try:
        unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, OSError, UnpicklingError):
        unsafe = []
    return f"needs {', '.join(unsafe[:NUM_SHOWN])}" if unsafe else "holds more, or something else"


def summary(error: Exception) -> str:
    """Return type and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")


def _without_own_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(OWN_PREFIXES) for name in weights):
        return dict(weights)
    prefix = OWN_PREFIXES[0]
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
