"""What a checkpoint holds: weights in safetensors, the optimiser without pickle, the history as JSON.

Learning rate, shuffling and augmentation follow from the seed and the epoch, so they need no state of their
own.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

WEIGHTS, OPTIMIZER, HISTORY = "model.safetensors", "optimizer.pt", "history.json"


@dataclass(frozen=True)
class EpochReport:
    """What one epoch brought.

    Attributes:
        epoch: From 1.
        metrics: Numbers by name, such as `full/top1`.
        timestamp_ms: When the epoch ended, in Unix time.
    """

    epoch: int
    metrics: dict[str, float]
    timestamp_ms: int

    def to_metrics(self) -> dict[str, float]:
        """Return all of it as the flat metrics that Ray Train carries."""
        return {"epoch": self.epoch, "timestamp_ms": self.timestamp_ms, **self.metrics}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float]) -> "EpochReport":
        """Return the report that `to_metrics` made flat."""
        rest = {name: value for name, value in metrics.items() if name not in ("epoch", "timestamp_ms")}
        return cls(int(metrics["epoch"]), rest, int(metrics["timestamp_ms"]))


History = tuple[EpochReport, ...]


def save_checkpoint(folder: Path, network: nn.Module, optimizer: Optimizer, history: History) -> None:
    """Write a checkpoint into an existing folder."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    torch.save(optimizer.state_dict(), folder / OPTIMIZER)
    (folder / HISTORY).write_text(json.dumps([asdict(report) for report in history]))


def load_checkpoint(
    folder: Path, network: nn.Module, optimizer: Optimizer, *, device: torch.device
) -> History:
    """Restore network and optimiser from a checkpoint; returns the epochs so far."""
    load_weights(folder, network)
    optimizer.load_state_dict(torch.load(folder / OPTIMIZER, map_location=device, weights_only=True))
    return read_history(folder)


def load_weights(folder: Path, network: nn.Module) -> None:
    """Restore the network alone."""
    network.load_state_dict(load_file(folder / WEIGHTS))


def read_history(folder: Path) -> History:
    """Return the epochs that led to a checkpoint."""
    rows: list[dict[str, Any]] = json.loads((folder / HISTORY).read_text())
    return tuple(EpochReport(**row) for row in rows)
