"""Loaders that hand every worker its part of the same batches.

Which images a batch holds and how each is augmented follows from seed, epoch and row. It depends neither on
the number of workers nor on that of loader processes, so a job goes on after a failure, or on fewer
machines, with the same data. (Streamed data is dealt by shards, so there the number of workers matters.)
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.config import S3Config
from pipeline.data.data_plan import DataPlan
from pipeline.data.random_state import kept_random_state, mix_seed, seed_transforms
from pipeline.data.sampling import GlobalBatchSampler, SampleKey, batch_shares, check_batches
from pipeline.data.sources import ImageSource, UnreadableImageError, open_source
from pipeline.data.sources.decoded import keep_decoded
from pipeline.data.sources.fingerprints import has_same_layout
from pipeline.data.streaming.images import StreamedImages
from pipeline.data.streaming.sampler import ShardSampler
from pipeline.data.streaming.shards import Shards, find_sharded
from pipeline.data.transforms import Transform
from pipeline.errors import JobError

IntArray = npt.NDArray[np.int64]
Sample = tuple[Tensor, int]
"""Image, float32 of shape (C, H, W) with the channels C of the plan, and label."""


class ImageDataset(Dataset[Sample]):
    """Images of a source with their labels, transformed.

    It pickles without images; a process that unpickles it opens the location anew.

    Args:
        location: Where the images are.
        rows: Rows of the source, one an image; shape (images,).
        labels: Their labels; shape (images,).
        transform: From image to tensor.
        seed: With a seed, an image's augmentation follows from seed, epoch and row, and the random state of
            the process stays as it was. None for transforms without chance.
        fingerprint: State of the files that the rows belong to; None if they may be any.
        s3: How to reach the store of an s3:// location; None for boto3's own defaults.
        decoded_bytes: Size of all images of the location as pixels, which decides whether they are kept so.
        shard_rows: Number of rows of every shard, where the location is streamed; else None or empty.
        channels: Which images are read with.
    """

    def __init__(
        self,
        location: str,
        rows: IntArray,
        labels: IntArray,
        transform: Transform,
        *,
        seed: int | None = None,
        fingerprint: str | None = None,
        s3: S3Config | None = None,
        decoded_bytes: int | None = None,
        shard_rows: IntArray | None = None,
        channels: int = 3,
    ) -> None:
        self._location = location
        self._rows = rows
        self._labels = labels
        self._transform = transform
        self._seed = seed
        self._fingerprint = fingerprint
        self._s3 = s3
        self._decoded_bytes = decoded_bytes
        self._shard_rows = shard_rows
        self._channels = channels
        self._source: ImageSource | StreamedImages | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Return one image; a bare number stands for epoch 0.

        Raises:
            UnreadableImageError: If the image cannot be decoded any more; names its file or row.
            JobError: If the files have changed since they were checked.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> list[Sample]:
        """Return a batch of images, as `__getitem__` each; what torch's loader calls."""
        samples = [key if isinstance(key, SampleKey) else SampleKey(0, key) for key in keys]
        if self._seed is None:
            return [self._read(sample.position) for sample in samples]
        with kept_random_state():
            return [self._read_seeded(sample, self._seed) for sample in samples]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def open(self) -> ImageSource | StreamedImages:
        """Return the source, opened at the first call.

        Raises:
            RequestError: If the location is gone.
            JobError: If names or sizes of its files differ from those that were checked.
        """
        if self._source is None:
            is_streamed = self._shard_rows is not None and len(self._shard_rows) > 0
            self._source = self._open_streamed() if is_streamed else self._open_whole()
        return self._source

    def _open_whole(self) -> ImageSource:
        """Return the source whose images are all within reach of this machine."""
        source = open_source(self._location, self._s3, self._fingerprint)
        self._check_fingerprint(source.fingerprint)
        return keep_decoded(source, self._decoded_bytes, self._channels)

    def _open_streamed(self) -> StreamedImages:
        """Return the images whose shards are fetched as they are needed."""
        shards = find_sharded(self._location, self._s3 or S3Config())
        self._check_fingerprint(shards.fingerprint if shards else "none")
        return StreamedImages(cast(Shards, shards), cast(IntArray, self._shard_rows))

    def _check_fingerprint(self, found: str) -> None:
        """Raise JobError if the data is not what was checked."""
        if self._fingerprint and not has_same_layout(self._fingerprint, found):
            raise JobError(
                f"data must stay as it was checked, names or sizes of the files in {self._location!r} "
                "have changed since or differ on this machine; restore them, or prepare the data again"
            )

    def _read_seeded(self, sample: SampleKey, seed: int) -> Sample:
        """Return an image with the augmentation that belongs to it in this epoch."""
        row = int(self._rows[sample.position])
        again = (sample.repeat,) if sample.repeat else ()
        seed_transforms(mix_seed(seed, sample.epoch, row, *again))
        return self._read(sample.position)

    def _read(self, position: int) -> Sample:
        """Return an image, augmented from the random state as it is."""
        try:
            image = self.open().read(int(self._rows[position]), self._channels)
        except UnreadableImageError as err:
            raise UnreadableImageError(
                f"every image must stay as it was checked, in {self._location!r} one has not: {err}; restore "
                "it and give the same command again"
            ) from err
        return self._transform(image), int(self._labels[position])


def train_loader(
    plan: DataPlan,
    transform: Transform,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    seed: int,
    num_loader_workers: int,
    repeats: int = 1,
    grain: int = 1,
) -> DataLoader[Sample]:
    """Return the loader of one worker's training images; call `set_epoch` on it before every epoch.

    Args:
        plan: Which images train.
        transform: From `train_transform`.
        batch_size: Images of all workers in one step, at least `grain` for each.
        rank: This worker, from 0.
        world_size: Number of workers.
        seed: Orders and augments the images; the same for all workers.
        num_loader_workers: Processes that decode for this worker; 0 decodes in the worker itself.
        repeats: How often an image appears in an epoch in which it appears; 1 where data is streamed.
        grain: A worker's share of a batch is a multiple of this.

    Returns:
        A loader of images, float32 of shape (B, C, H, W), and labels, int64 of shape (B,), where B is the
        worker's share, see `batch_shares`.

    Raises:
        ValueError: As `GlobalBatchSampler`.
        JobError: If the files have changed since they were checked.
    """
    dataset = ImageDataset(
        plan.train_location,
        plan.train_rows,
        plan.train_labels,
        transform,
        seed=seed,
        fingerprint=plan.train_fingerprint,
        s3=plan.s3,
        decoded_bytes=plan.train_decoded_bytes,
        shard_rows=plan.train_shard_rows,
        channels=plan.channels,
    )
    sampler = _train_sampler(
        plan,
        dataset.open(),
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        seed=seed,
        repeats=repeats,
        grain=grain,
    )
    return DataLoader(dataset, batch_sampler=sampler, **_loader_settings(dataset, num_loader_workers))


def _train_sampler(
    plan: DataPlan,
    source: ImageSource | StreamedImages,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    seed: int,
    repeats: int,
    grain: int,
) -> GlobalBatchSampler | ShardSampler:
    """Return what chooses one worker's images: out of all, or out of the shards of its part."""
    num_images = len(plan.train_rows)
    if not isinstance(source, StreamedImages):
        return GlobalBatchSampler(
            num_images,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            seed=seed,
            repeats=repeats,
            grain=grain,
        )
    check_batches(num_images, batch_size=batch_size, world_size=world_size, grain=grain)
    return ShardSampler(
        source.shards,
        source.shard_of(plan.train_rows),
        batch_sizes=batch_shares(batch_size, world_size=world_size, grain=grain),
        rank=rank,
        seed=seed,
    )


def validation_loader(
    plan: DataPlan,
    transform: Transform,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    num_loader_workers: int,
) -> DataLoader[Sample]:
    """Return the loader of one worker's validation images: none twice, none added, over all workers all.

    A worker gets every `world_size`-th image, or, where the location is streamed, a run of them, so that it
    fetches only the shards of its part.

    Args:
        plan: Which images validate.
        transform: From `eval_transform`.
        batch_size: Images of this worker in one step; the last batch may hold fewer.
        rank: This worker, from 0.
        world_size: Number of workers; those beyond the number of images get no batch.
        num_loader_workers: Processes that decode for this worker; 0 decodes in the worker itself.

    Returns:
        A loader of images, float32 of shape (B, C, H, W), and labels, int64 of shape (B,), in the plan's
        order.

    Raises:
        JobError: If the files have changed since they were checked.
    """
    is_split = plan.validation_location is None
    shard_rows = plan.train_shard_rows if is_split else plan.validation_shard_rows
    part = slice(None) if len(shard_rows) else slice(rank, None, world_size)
    dataset = ImageDataset(
        plan.validation_location or plan.train_location,
        plan.validation_rows[part],
        plan.validation_labels[part],
        transform,
        fingerprint=plan.train_fingerprint if is_split else plan.validation_fingerprint,
        s3=plan.s3,
        decoded_bytes=plan.train_decoded_bytes if is_split else plan.validation_decoded_bytes,
        shard_rows=shard_rows,
        channels=plan.channels,
    )
    settings = _loader_settings(dataset, num_loader_workers)
    source = dataset.open()
    if isinstance(source, StreamedImages):
        sampler = ShardSampler(
            source.shards,
            source.shard_of(plan.validation_rows),
            batch_sizes=[batch_size] * world_size,
            rank=rank,
            seed=None,
        )
        return DataLoader(dataset, batch_sampler=sampler, **settings)
    return DataLoader(dataset, batch_size=batch_size, **settings)


def set_epoch(loader: DataLoader[Sample], epoch: int, *, first_step: int = 0) -> None:
    """Choose the epoch, from 0, that a training loader yields next, and the step that it begins with."""
    cast(GlobalBatchSampler | ShardSampler, loader.batch_sampler).set_epoch(epoch, first_step=first_step)


def _loader_settings(dataset: ImageDataset, num_loader_workers: int) -> dict[str, Any]:
    """Return what both loaders ask of torch; loads the data, so that forked processes share it."""
    dataset.open().load()
    return {
        "num_workers": num_loader_workers,
        "persistent_workers": num_loader_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # else torch draws from the random state of the process
    }
