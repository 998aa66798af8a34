"""What a checkpoint holds: the whole state of a training at the end of an epoch or within one, in format 2.

A folder with the weights and, where there is one, their moving average in safetensors, the optimiser's
tensors likewise, the history as JSON, and a manifest that is written last (see `manifest`). Nothing needs
unpickling.

What is not stored follows from what is. The learning rate is a function of the number of the update. Order,
augmentation and every other draw of an epoch follow from seed, epoch and rank, because each epoch seeds all
random sources anew, and so does a checkpoint that is written within one. None needs a random state.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from pipeline.networks.single_depth import Network
from pipeline.storage import StoragePath

from .epochs import EpochReport, History, Reached
from .manifest import MANIFEST, CheckpointError, FileRecord, Manifest, differences, named
from .plain_state import pack, unpack

WEIGHTS, AVERAGE, OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.safetensors"
HISTORY = "history.json"


@dataclass(frozen=True)
class TrainingState:
    """The parts of a training that have state.

    Attributes:
        network: The network that learns.
        optimizer: Over its parameters.
        ema: A network with the moving average of its weights, or None.
        scaler: Of the gradients in float16, or None.
    """

    network: Network
    optimizer: Optimizer
    ema: nn.Module | None = None
    scaler: GradScaler | None = None

    def describe_optimizer(self) -> dict[str, Any]:
        """Return what tells optimisers apart: a state fits only one that says the same."""
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        return {"kind": type(self.optimizer).__name__, "groups": sizes}


def save_checkpoint(folder: Path, state: TrainingState, reached: Reached) -> None:
    """Write a checkpoint.

    All tensors are on disk when it returns, so training may go on while the folder is copied elsewhere.

    Args:
        folder: Exists, is empty.
        state: What to store.
        reached: How far the training is.

    Raises:
        TypeError: If the optimiser's state holds what is neither a tensor nor plain data.
    """
    tensors: dict[str, Tensor] = {}
    optimizer = {**state.describe_optimizer(), "state": pack(state.optimizer.state_dict(), tensors)}
    _save_tensors(folder / WEIGHTS, state.network.state_dict())
    _save_tensors(folder / OPTIMIZER, tensors)
    if state.ema is not None:
        _save_tensors(folder / AVERAGE, state.ema.state_dict())
    (folder / HISTORY).write_text(json.dumps([asdict(report) for report in reached.history]))
    Manifest(
        network=describe(state.network),
        epoch=len(reached.history),
        updates=reached.updates,
        loss_sum=reached.loss_sum,
        files={path.name: FileRecord.of(path) for path in sorted(folder.iterdir())},
        optimizer=optimizer,
        scaler=None if state.scaler is None else pack(state.scaler.state_dict(), {}),
    ).save(folder)


def load_checkpoint(folder: Path, state: TrainingState) -> Reached:
    """Restore all parts of a training; nothing of them changes where the checkpoint is refused.

    Args:
        folder: Of the checkpoint.
        state: The parts to restore, wherever their tensors lie.

    Returns:
        How far the training was.

    Raises:
        CheckpointError: If it is not whole, of another network or optimiser, or has not the same parts.
    """
    manifest = open_checkpoint(folder, state.network)
    _check_parts(folder, manifest, state)
    tensors = load_file(folder / OPTIMIZER)
    stored = unpack(manifest.optimizer["state"], tensors)
    _take_over(stored["state"], state.optimizer)
    state.optimizer.load_state_dict(stored)
    state.network.load_state_dict(load_file(folder / WEIGHTS))
    if state.ema is not None:
        state.ema.load_state_dict(load_file(folder / AVERAGE))
    if state.scaler is not None:
        state.scaler.load_state_dict(unpack(manifest.scaler, {}))
    return Reached(read_history(folder), manifest.updates, manifest.loss_sum)


def load_weights(folder: Path, network: Network) -> None:
    """Restore the network alone, by the better one of its weights and their moving average.

    Raises:
        CheckpointError: As `load_checkpoint`.
    """
    open_checkpoint(folder, network)
    *_, latest = read_history(folder)
    network.load_state_dict(load_file(folder / (AVERAGE if latest.uses_ema else WEIGHTS)))


def open_checkpoint(folder: Path, network: Network) -> Manifest:
    """Return the manifest of a whole checkpoint of a network; raises CheckpointError otherwise."""
    manifest = Manifest.load(folder)
    difference = differences(manifest.network, describe(network))
    if difference:
        raise CheckpointError(str(folder), MANIFEST, f"is of another network: {difference}")
    return manifest


def read_history(folder: Path) -> History:
    """Return the epochs that led to a checkpoint; raises CheckpointError if they cannot be read."""
    try:
        rows: list[dict[str, Any]] = json.loads((folder / HISTORY).read_text())
        return tuple(EpochReport(**row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(str(folder), HISTORY, f"cannot be read ({error})") from error


def read_stored_history(checkpoint: StoragePath) -> History:
    """Return the epochs that led to a checkpoint in storage; raises as `read_history`."""
    with named(checkpoint):
        try:
            with (checkpoint / HISTORY).as_local() as path:
                return read_history(path.parent)
        except FileNotFoundError as error:
            raise CheckpointError(str(checkpoint), HISTORY, "is missing") from error


def describe(network: Network) -> dict[str, Any]:
    """Return what tells a network from others, as plain data: its description and the size of its state."""
    description: dict[str, Any] = json.loads(json.dumps(network.description.to_dict()))
    shapes = [value.numel() for value in network.state_dict().values()]
    return {**description, "tensors": len(shapes), "numbers": sum(shapes)}


def _check_parts(folder: Path, manifest: Manifest, state: TrainingState) -> None:
    stored = {key: value for key, value in manifest.optimizer.items() if key != "state"}
    stored |= {"ema": AVERAGE in manifest.files, "scaler": manifest.scaler is not None}
    expected = state.describe_optimizer()
    expected |= {"ema": state.ema is not None, "scaler": state.scaler is not None}
    difference = differences(stored, expected)
    if difference:
        raise CheckpointError(str(folder), MANIFEST, f"is of other training settings: {difference}")


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # it tells what the system said as text alone
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _take_over(state: Mapping[int, dict[str, Any]], optimizer: Optimizer) -> None:
    """Copy stored tensors, which lie in the file, to memory laid out like their parameters.

    safetensors does not keep strides, and a file that is read lazily must not be needed any more.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                is_alike = value.shape == parameters[index].shape
                strides = parameters[index].stride() if is_alike else value.stride()
                values[name] = torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)
