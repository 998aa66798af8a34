"""Images per second from every kind of storage, against a bare torch DataLoader on the same images.

Run:      OMP_NUM_THREADS=1 python -m tests.benchmarks.input_pipeline
Expect:   at least 0.95 times a bare loader's speed from a path, whatever the kind; several times its speed
          where pixels are kept; about five minutes on two CPU cores
Writes:   a table, build/benchmarks/*.json and a section of RESULTS.md; images to a temporary folder

Both sides load in this process, one thread, so that what is compared is the work for an image and not how the
machine shares its cores. JPEGs have 256 pixels and structure at several scales; the transform is the training
one for 224 pixels. The S3 server, moto's, runs in a process of its own.
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from pipeline.config import S3Config
from pipeline.data.loading import set_epoch, train_loader
from pipeline.data.plan import DataPlan, prepare_data
from pipeline.data.sources import decoded
from pipeline.data.transforms import Preprocessing, Transform, train_transform
from tests.benchmarks.paired import compare, publish
from tests.s3_server import Faults, Server

COMMAND = "OMP_NUM_THREADS=1 python -m tests.benchmarks.input_pipeline"
NUM_PHOTOGRAPHS, NUM_THUMBNAILS = 512, 4096
BATCH = 32
_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PHOTOGRAPH = train_transform(Preprocessing(224, *_STATISTICS), crop="random_resized", flip_probability=0.5)
THUMBNAIL = train_transform(Preprocessing(32, *_STATISTICS), crop="pad", flip_probability=0.5)


@dataclass(frozen=True)
class Encoded:
    """Images as files would hold them.

    Attributes:
        images: The bytes of each.
        labels: 0 to 9 in turns.
        suffix: Of their kind.
    """

    images: list[bytes]
    labels: list[int]
    suffix: str

    def write_folder(self, root: Path) -> Path:
        """Write one file an image, in class folders."""
        for number, (image, label) in enumerate(zip(self.images, self.labels, strict=True)):
            (root / str(label)).mkdir(parents=True, exist_ok=True)
            (root / str(label) / f"{number:05}{self.suffix}").write_bytes(image)
        return root

    def write_parquet(self, root: Path, num_shards: int) -> Path:
        """Write Parquet shards."""
        root.mkdir(parents=True)
        for shard in range(num_shards):
            images = [{"bytes": image} for image in self.images[shard::num_shards]]
            table = pa.table({"image": images, "label": self.labels[shard::num_shards]})
            pq.write_table(table, root / f"{shard:03}.parquet")
        return root


class BareDataset(Dataset[Any]):
    """What one writes by hand: encoded images in a list."""

    def __init__(self, data: Encoded, transform: Transform) -> None:
        self._data = data
        self._transform = transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._data.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return image and label."""
        image = Image.open(io.BytesIO(self._data.images[index])).convert("RGB")
        return self._transform(image), self._data.labels[index]


def draw(seed: int, size: int) -> Image.Image:
    """Return an image with structure from a tenth of its size down to a few pixels."""
    random = np.random.default_rng(seed)
    layers = []
    for cells, weight in ((4, 0.6), (16, 0.3), (64, 0.1)):
        noise = random.integers(0, 256, (min(cells, size), min(cells, size), 3), dtype=np.uint8)
        layers.append(
            weight * np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))
        )
    return Image.fromarray(np.sum(layers, axis=0).clip(0, 255).astype(np.uint8))


def encode(count: int, size: int, kind: str) -> Encoded:
    """Return so many images of one size."""
    images = []
    for number in range(count):
        file = io.BytesIO()
        draw(number, size).save(file, kind, quality=90)
        images.append(file.getvalue())
    suffix = ".jpg" if kind == "JPEG" else ".png"
    return Encoded(images, [number % 10 for number in range(count)], suffix)


def plan_for(location: str, **settings: Any) -> DataPlan:
    """Return a plan that trains on nearly all images of a location."""
    return prepare_data(
        location, None, validation_fraction=0.1, seed=0, bad_items="fail", max_bad_fraction=0.0, **settings
    )


def ours(plan: DataPlan, transform: Transform, num_images: int, *, keeps_pixels: bool) -> Callable[[], None]:
    """Return a call that loads images of consecutive epochs, so many."""
    limit, decoded.LIMIT_BYTES = decoded.LIMIT_BYTES, decoded.LIMIT_BYTES if keeps_pixels else 0
    loader = train_loader(
        plan, transform, batch_size=BATCH, rank=0, world_size=1, seed=0, num_loader_workers=0
    )
    decoded.LIMIT_BYTES = limit
    epochs = iter(range(1_000_000))

    def load() -> None:
        set_epoch(loader, next(epochs))
        consume(loader, num_images)

    return load


def bare(dataset: Dataset[Any], num_images: int) -> Callable[[], None]:
    """Return a call that loads so many images by torch's own loader."""
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    return lambda: consume(loader, num_images)


def consume(loader: DataLoader[Any], num_images: int) -> None:
    """Take exactly so many images from a loader."""
    seen = 0
    for images, _ in loader:
        seen += len(images)
        if seen >= num_images:
            return
    raise RuntimeError(f"a loader must give {num_images} images, it gave {seen}")


@contextmanager
def s3_server() -> Iterator[Server]:
    """Run the server in a process of its own, which ends with the block."""
    process = subprocess.Popen([sys.executable, "-m", "tests.s3_server"], stdout=subprocess.PIPE, text=True)
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    try:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip(), Faults())
    finally:
        process.terminate()
        process.wait()


def measure(folder: Path, server: Server) -> Iterator[Any]:
    """Yield the comparisons."""
    photographs = encode(NUM_PHOTOGRAPHS, 256, "JPEG")
    count = 3 * NUM_PHOTOGRAPHS // 4 // BATCH * BATCH
    files = photographs.write_folder(folder / "folder")
    shards = photographs.write_parquet(folder / "parquet", 8)
    s3 = S3Config(endpoint_url=server.url)
    image_folder, by_hand = ImageFolder(str(files), PHOTOGRAPH), BareDataset(photographs, PHOTOGRAPH)
    plans = {
        "image folder": (plan_for(str(files)), image_folder),
        "Parquet": (plan_for(str(shards)), by_hand),
        "S3 folder, staged": (plan_for(server.upload(files, "folder"), s3=s3), image_folder),
        "S3 Parquet, streamed": (
            plan_for(server.upload(shards, "shards"), s3=s3, cache_limit_gib=1e-9),
            by_hand,
        ),
    }
    for name, (plan, dataset) in plans.items():
        label = f"{name}, {count} JPEG 256"
        call = ours(plan, PHOTOGRAPH, count, keeps_pixels=False)
        yield compare(label, ("skipline", call), ("torch", bare(dataset, count)))
    call = ours(plans["image folder"][0], PHOTOGRAPH, count, keeps_pixels=True)
    yield compare(
        f"image folder, pixels kept, {count} JPEG 256",
        ("skipline", call),
        ("torch", bare(image_folder, count)),
    )
    yield from measure_thumbnails(folder)


def measure_thumbnails(folder: Path) -> Iterator[Any]:
    """Yield what keeping pixels brings for small images."""
    thumbnails = encode(NUM_THUMBNAILS, 32, "PNG")
    count = 3 * NUM_THUMBNAILS // 4 // BATCH * BATCH
    plan = plan_for(str(thumbnails.write_parquet(folder / "thumbnails", 1)))
    kept = ours(plan, THUMBNAIL, count, keeps_pixels=True)
    anew = ours(plan, THUMBNAIL, count, keeps_pixels=False)
    by_hand = bare(BareDataset(thumbnails, THUMBNAIL), count)
    yield compare(f"Parquet, {count} PNG 32", ("skipline", anew), ("torch", by_hand))
    yield compare(f"Parquet, pixels kept, {count} PNG 32", ("skipline", kept), ("torch", by_hand))
    yield compare(f"pixels kept or decoded anew, {count} PNG 32", ("kept", kept), ("anew", anew))


def main() -> None:
    """Measure and publish."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, s3_server() as server:
        os.environ["SKIPLINE_CACHE_DIR"] = f"{name}/cache"
        comparisons = list(measure(Path(name), server))
    publish("Input pipeline", COMMAND, comparisons)


if __name__ == "__main__":
    main()
