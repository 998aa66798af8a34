"""The order in which one worker reads a streamed data set, and the fetching ahead of what comes next.

Shards are put in an order of chance; the images, in the order of their shards, are dealt in equal runs to the
workers, so each fetches its own shards and at most shares the first and the last one. Within a worker, the
images of a few shards at a time, a window, are mixed.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from pipeline.data.random_state import mix_seed
from pipeline.data.sampling import SampleKey, check_share
from pipeline.data.streaming.shards import Shards

IntArray = npt.NDArray[np.int64]

WINDOW_SHARDS = 4
"""Shards whose images are mixed; chosen: of ImageNet's usual 1,000 shards, 5,000 images."""


class ShardSampler(Sampler[list[SampleKey]]):
    """One worker's batches of a streamed data set.

    The order of an epoch follows from seed, epoch, rank and number of workers. Every worker has the same
    number of steps, the same in every epoch, and no image comes twice in one. Without a seed the images come
    in their own order, all of them. An epoch that is gone on with by another number of workers is dealt
    anew, so some of its images come twice and others not at all.

    Args:
        shards: Fetches ahead.
        shard_of_image: Index of the shard that holds an image, ascending; shape (images,).
        batch_sizes: Images of every worker in one step.
        rank: This worker, from 0.
        seed: Orders the images; None keeps their order and the incomplete last batch.

    Raises:
        ValueError: If there are fewer images than one step of all workers takes, and a seed.
    """

    def __init__(
        self,
        shards: Shards,
        shard_of_image: IntArray,
        *,
        batch_sizes: Sequence[int],
        rank: int,
        seed: int | None,
    ) -> None:
        check_share(rank=rank, world_size=len(batch_sizes))
        self._shards = shards
        self._shard_of_image = shard_of_image
        self._batch_sizes = batch_sizes
        self._rank = rank
        self._seed = seed
        self._epoch, self._first_step = 0, 0
        self._on_disk: frozenset[int] = frozenset()

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose the epoch, from 0, that the next iteration yields, and the step that it begins with."""
        self._epoch, self._first_step = epoch, first_step

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        first, last = self._run()
        return -(-(last - first) // self._batch_sizes[self._rank])

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield the keys of this worker's images, one list a step."""
        epoch, batch_size = self._epoch, self._batch_sizes[self._rank]
        with closing(self._images(epoch)) as images:
            keys = (SampleKey(epoch, position) for position in images)
            for step, batch in enumerate(iter(lambda: list(islice(keys, batch_size)), [])):
                if step >= self._first_step:
                    yield batch

    def windows(self, epoch: int) -> list[IntArray]:
        """Return this worker's images of an epoch, window by window, in the order of their shards."""
        first, last = self._run()
        run = self._order(epoch)[first:last]
        shard_starts = np.flatnonzero(np.diff(self._shard_of_image[run], prepend=-1))
        return np.split(run, shard_starts[WINDOW_SHARDS::WINDOW_SHARDS]) if len(run) else []

    def _run(self) -> tuple[int, int]:
        """Return where this worker's part of the images begins and ends."""
        num_images, world_size = len(self._shard_of_image), len(self._batch_sizes)
        if self._seed is None:
            return num_images * self._rank // world_size, num_images * (self._rank + 1) // world_size
        num_steps = num_images // sum(self._batch_sizes)
        first = sum(self._batch_sizes[: self._rank]) * num_steps
        return first, first + self._batch_sizes[self._rank] * num_steps

    def _order(self, epoch: int) -> IntArray:
        """Return all images in the order of this epoch's shards."""
        if self._seed is None:
            return np.arange(len(self._shard_of_image))
        generator = torch.Generator().manual_seed(mix_seed(self._seed, epoch))
        place_of_shard = torch.randperm(len(self._shards), generator=generator).numpy()
        return np.argsort(place_of_shard[self._shard_of_image], kind="stable")

    def _images(self, epoch: int) -> Generator[int, None, None]:
        """Yield this worker's images; shards of the next window are fetched while those of one are read."""
        windows = self.windows(epoch)
        pool = ThreadPoolExecutor(WINDOW_SHARDS, thread_name_prefix="skipline-fetch")
        try:
            for number, window in enumerate(windows):
                self._fetch(windows[max(0, number - 1) : number + 2], pool)
                yield from self._mixed(window, epoch, number)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._shards.log_failures()

    def _mixed(self, window: IntArray, epoch: int, number: int) -> list[int]:
        """Return the images of a window in an order of chance, or as they are without a seed."""
        in_order: list[int] = window.tolist()
        if self._seed is None:
            return in_order
        seed = mix_seed(self._seed, epoch, self._rank, number)
        order = torch.randperm(len(window), generator=torch.Generator().manual_seed(seed))
        return [in_order[place] for place in order.tolist()]

    def _fetch(self, windows: Sequence[IntArray], pool: ThreadPoolExecutor) -> None:
        """Fetch the shards of the last, this and the next window, and drop all others this worker has had.

        Those of the last window stay because loader processes are some batches behind. A fetch that fails
        here is tried again, and its error raised, where the shard is read.
        """
        wanted = [
            shard for window in windows for shard in dict.fromkeys(self._shard_of_image[window].tolist())
        ]
        for shard in self._on_disk.difference(wanted):
            self._shards.drop(shard)
        for shard in wanted:
            if shard not in self._on_disk:
                pool.submit(self._shards.fetch, shard)
        self._on_disk = frozenset(wanted)
