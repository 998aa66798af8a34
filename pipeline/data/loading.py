"""Loaders that hand every worker its part of the same batches.

Which images a batch holds and how each is augmented follows from seed, epoch and row. It depends neither on
the number of workers nor on that of loader processes, so a job goes on after a failure, or on fewer
machines, with the same data.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.config import S3Config
from pipeline.data.data_plan import DataPlan
from pipeline.data.random_state import kept_random_state, mix_seed, seed_transforms
from pipeline.data.sources import ImageSource, open_source
from pipeline.data.sources.decoded import keep_decoded
from pipeline.data.sources.fingerprints import has_same_layout
from pipeline.data.transforms import Transform
from pipeline.errors import JobError

IntArray = npt.NDArray[np.int64]
Sample = tuple[Tensor, int]
"""Image, float32 of shape (3, H, W), and label."""


class SampleKey(NamedTuple):
    """Asks a data set for an image as it looks in one epoch."""

    epoch: int
    position: int


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
    ) -> None:
        self._location = location
        self._rows = rows
        self._labels = labels
        self._transform = transform
        self._seed = seed
        self._fingerprint = fingerprint
        self._s3 = s3
        self._decoded_bytes = decoded_bytes
        self._source: ImageSource | None = None

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

    def open(self) -> ImageSource:
        """Return the source, opened at the first call.

        Raises:
            RequestError: If the location is gone.
            JobError: If names or sizes of its files differ from those that were checked.
        """
        if self._source is None:
            source = open_source(self._location, self._s3, self._fingerprint)
            if self._fingerprint and not has_same_layout(self._fingerprint, source.fingerprint):
                raise JobError(
                    f"data must stay as it was checked, names or sizes of the files in {self._location!r} "
                    "have changed since or differ on this machine; restore them, or prepare the data again"
                )
            self._source = keep_decoded(source, self._decoded_bytes)
        return self._source

    def _read_seeded(self, sample: SampleKey, seed: int) -> Sample:
        """Return an image with the augmentation that belongs to it in this epoch."""
        seed_transforms(mix_seed(seed, sample.epoch, int(self._rows[sample.position])))
        return self._read(sample.position)

    def _read(self, position: int) -> Sample:
        """Return an image, augmented from the random state as it is."""
        image = self.open().read(int(self._rows[position]))
        return self._transform(image), int(self._labels[position])


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """One worker's part of every global batch.

    The order of an epoch follows from seed and epoch. Step s takes the images s*B to (s+1)*B of it, and of
    these worker r takes every `world_size`-th from the r-th on: together the workers see exactly the
    batches that a single one sees. An incomplete last batch is dropped.

    Args:
        num_images: Number of images in the data set.
        batch_size: Images of all workers in one step, B.
        rank: This worker, from 0.
        world_size: Number of workers.
        seed: Orders the images.

    Raises:
        ValueError: If the batch cannot be shared equally, or the data set is smaller than one batch.
    """

    def __init__(self, num_images: int, *, batch_size: int, rank: int, world_size: int, seed: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(
                f"0 <= rank < world_size must hold, got {rank=} and {world_size=}; correct the rank"
            )
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                "the global batch must be a multiple of the number of workers, got a batch of "
                f"{batch_size} for {world_size}; {max(1, round(batch_size / world_size)) * world_size} "
                "would do"
            )
        if num_images < batch_size:
            raise ValueError(
                f"training data must fill one batch, got {num_images} images for a batch of {batch_size}; "
                "lower the batch size or add images"
            )
        self._num_images = num_images
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self._num_images // self._batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield the keys of this worker's images, one list a step."""
        epoch = self._epoch
        generator = torch.Generator().manual_seed(mix_seed(self._seed, epoch))
        order = torch.randperm(self._num_images, generator=generator).tolist()
        for step in range(len(self)):
            first = step * self._batch_size
            positions = order[first + self._rank : first + self._batch_size : self._world_size]
            yield [SampleKey(epoch, position) for position in positions]


def train_loader(
    plan: DataPlan,
    transform: Transform,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    seed: int,
    num_loader_workers: int,
) -> DataLoader[Sample]:
    """Return the loader of one worker's training images; call `set_epoch` on it before every epoch.

    Args:
        plan: Which images train.
        transform: From `train_transform`.
        batch_size: Images of all workers in one step; a multiple of `world_size`.
        rank: This worker, from 0.
        world_size: Number of workers.
        seed: Orders and augments the images; the same for all workers.
        num_loader_workers: Processes that decode for this worker; 0 decodes in the worker itself.

    Returns:
        A loader of images, float32 of shape (batch_size / world_size, 3, H, W), and labels, int64 of shape
        (batch_size / world_size,).

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
    )
    sampler = GlobalBatchSampler(
        len(dataset), batch_size=batch_size, rank=rank, world_size=world_size, seed=seed
    )
    return DataLoader(dataset, batch_sampler=sampler, **_loader_settings(dataset, num_loader_workers))


def validation_loader(
    plan: DataPlan,
    transform: Transform,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    num_loader_workers: int,
) -> DataLoader[Sample]:
    """Return the loader of one worker's validation images: every `world_size`-th, none twice, none added.

    Args:
        plan: Which images validate.
        transform: From `eval_transform`.
        batch_size: Images of this worker in one step; the last batch may hold fewer.
        rank: This worker, from 0.
        world_size: Number of workers; those beyond the number of images get no batch.
        num_loader_workers: Processes that decode for this worker; 0 decodes in the worker itself.

    Returns:
        A loader of images, float32 of shape (B, 3, H, W), and labels, int64 of shape (B,), in the plan's
        order.

    Raises:
        JobError: If the files have changed since they were checked.
    """
    is_split = plan.validation_location is None
    dataset = ImageDataset(
        plan.validation_location or plan.train_location,
        plan.validation_rows[rank::world_size],
        plan.validation_labels[rank::world_size],
        transform,
        fingerprint=plan.train_fingerprint if is_split else plan.validation_fingerprint,
        s3=plan.s3,
        decoded_bytes=plan.train_decoded_bytes if is_split else plan.validation_decoded_bytes,
    )
    return DataLoader(dataset, batch_size=batch_size, **_loader_settings(dataset, num_loader_workers))


def set_epoch(loader: DataLoader[Sample], epoch: int) -> None:
    """Choose the epoch, from 0, that a training loader yields next."""
    cast(GlobalBatchSampler, loader.batch_sampler).set_epoch(epoch)


def _loader_settings(dataset: ImageDataset, num_loader_workers: int) -> dict[str, Any]:
    """Return what both loaders ask of torch; loads the data, so that forked processes share it."""
    dataset.open().load()
    return {
        "num_workers": num_loader_workers,
        "persistent_workers": num_loader_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # else torch draws from the random state of the process
    }
