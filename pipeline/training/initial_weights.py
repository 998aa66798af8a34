"""Files of weights that trainings are given: the driver makes each once, workers read them."""

from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.pretrained import Source, initial_weights, start_from
from pipeline.storage import StoragePath
from pipeline.weights_file import write_weights


@dataclass(frozen=True)
class GivenWeights:
    """Files in the job's storage.

    Attributes:
        initial: What all trainings of a pretrained job start from; None for a job that starts new.
        teacher: Weights of the network that teaches the super-net; None where there is none.
        winner: Checkpoint of a search's best trial, where the training goes on from it; else None.
    """

    initial: StoragePath | None = None
    teacher: StoragePath | None = None
    winner: StoragePath | None = None


def store_initial_weights(
    file: StoragePath, description: NetworkDescription, source: Source, *, seed: int
) -> tuple[str, ...]:
    """Write a backbone's initial weights to a file.

    Args:
        file: To write, or write anew.
        description: Of the network.
        source: Where pretrained weights come from.
        seed: What starts new follows from it.

    Returns:
        Names of the weights that start new.

    Raises:
        PretrainedError: If the source cannot be had, or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = initial_weights(description, source)
    with file.writing() as path:
        write_weights(start.weights, path)
    return start.new


def load_initial_weights(file: StoragePath, network: AdaptiveDepthNetwork) -> None:
    """Let a network start from the file that `store_initial_weights` wrote."""
    with file.as_local() as path:
        start_from(network, load_file(path))
