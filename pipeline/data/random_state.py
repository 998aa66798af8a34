"""Randomness that follows from numbers alone, not from which process draws it or what was drawn before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK_64 = (1 << 64) - 1
_MASK_32 = (1 << 32) - 1


def mix_seed(*parts: int) -> int:
    """Return one seed of 64 bits from several numbers, far apart for near ones.

    Source: the splitmix64 step, Steele et al. 2014, doi:10.1145/2660193.2660195.
    """
    mixed = 0
    for part in parts:
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & _MASK_64
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK_64
        mixed ^= mixed >> 31
    return mixed


def seed_transforms(seed: int) -> None:
    """Seed what image transforms draw from: Python, numpy and torch on the CPU.

    `torch.manual_seed` reaches every device and takes 100 µs; the two calls here take 5 µs (measured on one
    core of a cloud machine), which is why they can be made for each image.
    """
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & _MASK_32)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give back the random state of Python, numpy and torch on the CPU as it was."""
    python_state, torch_state, numpy_state = random.getstate(), torch.get_rng_state(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
