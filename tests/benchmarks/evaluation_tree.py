"""All 16 profiles of ResNet-50 evaluated in one pass against 16 evaluations, one a profile.

One pass decodes every image once and walks the profiles as a tree, whose multiply-adds are 0.47 of those of
16 separate networks. The rest of the gain is the decoding, so it grows with its share.

Run:      python -m tests.benchmarks.evaluation_tree
Expect:   at least 1.9 times faster without decoding; with it 3 times in bf16, but 2.4 times in float32, where
          decoding is a small part
Takes:    about six minutes on two CPU cores
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.loading import validation_loader
from pipeline.data.plan import prepare_data
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.evaluation.accuracy import count_profiles
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.adaptive import memory_format

from .generated_images import PHOTOGRAPH, write_jpegs
from .paired import Comparison, compare, publish
from .training_step import BATCH_SIZE, IMAGE_SIZE, PRECISIONS, RESNET50, random_batch

COMMAND = "python -m tests.benchmarks.evaluation_tree"
NUM_IMAGES = 32
Batches = Iterable[tuple[Tensor, Tensor]]


def ways(
    network: AdaptiveDepthNetwork, batches: Batches, precision: str
) -> tuple[tuple[str, Callable[[], Tensor]], tuple[str, Callable[[], Tensor]]]:
    """Return one pass and 16 passes over batches, each with its label; both return the same counts."""
    settings = {"device": torch.device("cpu"), "precision": precision}

    def one_pass() -> Tensor:
        return count_profiles(network, batches, network.profiles, **settings)

    def separate() -> Tensor:
        return torch.cat(
            [count_profiles(network, batches, [profile], **settings) for profile in network.profiles]
        )

    return ("one pass", one_pass), ("16 passes", separate)


def photographs(folder: Path) -> Batches:
    """Return the validation loader of generated photographs, which decodes them anew at every pass."""
    train = write_jpegs(folder / "train", 4)
    validation = write_jpegs(folder / "validation", NUM_IMAGES)
    plan = prepare_data(
        str(train),
        str(validation),
        validation_fraction=0.1,
        seed=0,
        bad_items="fail",
        max_bad_fraction=0.01,
    )
    preprocessing = Preprocessing(IMAGE_SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return validation_loader(
        plan,
        eval_transform(preprocessing),
        batch_size=BATCH_SIZE,
        rank=0,
        world_size=1,
        num_loader_workers=0,
    )


def measure(files: Batches) -> Iterator[Comparison]:
    """Compare with and without decoding, in both precisions."""
    network = RESNET50.network().eval()
    network.to(memory_format=memory_format(network))
    for precision in PRECISIONS:
        yield compare(f"computing alone, {precision}", *ways(network, [random_batch()], precision))
        yield compare(f"decoding included, {precision}", *ways(network, files, precision))


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory() as folder:
        comparisons = list(measure(photographs(Path(folder))))
    height, width = PHOTOGRAPH
    num_batches = NUM_IMAGES // BATCH_SIZE
    notes = [
        f"Batches of {BATCH_SIZE} images of {IMAGE_SIZE} pixels: one without decoding, "
        f"{num_batches} with, from JPEG files of {width}x{height} pixels, decoded in the same process."
    ]
    publish("16 profiles evaluated in one pass", COMMAND, comparisons, notes)


if __name__ == "__main__":
    main()
