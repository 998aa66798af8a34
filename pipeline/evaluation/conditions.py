"""Under which conditions latencies are measured here and now; shipped inside registered models."""

import platform
from pathlib import Path

import torch

from .table import LatencyConditions

PRECISION = "float32"
"""Accuracies and latencies are taken as a registered version predicts."""


def latency_conditions(device: torch.device, batch_size: int) -> LatencyConditions:
    """Return what has to be known about latencies measured here and now."""
    return LatencyConditions(device_name(device), torch.get_num_threads(), batch_size, PRECISION)


def device_name(device: torch.device) -> str:
    """Return the name that the maker gave to a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
