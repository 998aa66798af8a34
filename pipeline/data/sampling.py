"""Which images a worker sees in a step, where all of them are within reach of every worker."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from pipeline.data.random_state import mix_seed


class SampleKey(NamedTuple):
    """Asks a data set for an image as it looks in one epoch; `repeat` counts its appearances there from 0."""

    epoch: int
    position: int
    repeat: int = 0


def check_share(*, rank: int, world_size: int) -> None:
    """Raise ValueError if there is no such worker."""
    if not 0 <= rank < world_size:
        raise ValueError(f"0 <= rank < world_size must hold, got {rank=} and {world_size=}; correct the rank")


def check_batches(num_images: int, *, batch_size: int, world_size: int, grain: int = 1) -> None:
    """Raise ValueError if the global batch does not reach for all workers, or the images do not fill one."""
    if batch_size < world_size * grain or batch_size % grain:
        raise ValueError(
            f"the global batch must hold {grain} image(s) for every worker, or a multiple, got a batch of "
            f"{batch_size} for {world_size}; {world_size * grain} would do"
        )
    if num_images < batch_size:
        raise ValueError(
            f"training data must fill one batch, got {num_images} images for a batch of {batch_size}; "
            "lower the batch size or add images"
        )


def batch_shares(batch_size: int, *, world_size: int, grain: int = 1) -> list[int]:
    """Return how many images of a global batch every worker gets: as equal as can be, in whole grains."""
    return [len(range(rank, batch_size // grain, world_size)) * grain for rank in range(world_size)]


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """One worker's part of every global batch.

    The order of an epoch follows from seed and epoch. Step s takes the images s*B to (s+1)*B of it, and of
    these worker r takes every `world_size`-th grain from the r-th on: together the workers see exactly the
    batches that a single one sees, whether or not their number divides B. An incomplete last batch is
    dropped.

    With repeats, as many steps see fewer images, each of them several times in one batch, varied anew each
    time (Hoffer et al. 2020, arXiv:1901.09335).

    Args:
        num_images: Number of images in the data set.
        batch_size: Images of all workers in one step, B.
        rank: This worker, from 0.
        world_size: Number of workers.
        seed: Orders the images.
        repeats: How often an image appears in an epoch in which it appears.
        grain: Images that stay together on one worker, such as 2 where images are mixed in pairs.

    Raises:
        ValueError: If the batch does not reach for all workers, or the data set is smaller than one batch.
    """

    def __init__(
        self,
        num_images: int,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        repeats: int = 1,
        grain: int = 1,
    ) -> None:
        check_share(rank=rank, world_size=world_size)
        check_batches(num_images, batch_size=batch_size, world_size=world_size, grain=grain)
        self._num_images = num_images
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._seed = seed
        self._repeats = repeats
        self._grain = grain
        self._epoch, self._first_step = 0, 0

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose the epoch, from 0, that the next iteration yields, and the step that it begins with."""
        self._epoch, self._first_step = epoch, first_step

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self._num_images // self._batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield the keys of this worker's images, one list a step."""
        epoch, grain = self._epoch, self._grain
        generator = torch.Generator().manual_seed(mix_seed(self._seed, epoch))
        order = torch.randperm(self._num_images, generator=generator).tolist()
        for step in range(self._first_step, len(self)):
            first = step * self._batch_size
            grains = range(self._rank, self._batch_size // grain, self._world_size)
            places = [first + number * grain + place for number in grains for place in range(grain)]
            turns = [divmod(place, self._repeats) for place in places]
            yield [SampleKey(epoch, order[place], repeat) for place, repeat in turns]
