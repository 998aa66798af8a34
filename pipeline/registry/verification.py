"""Counts again what the profiles of a version get right, and compares it with what was registered."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mlflow.tracking import MlflowClient
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.data import stratified
from pipeline.data.inspection import Inspection
from pipeline.data.loading import ImageDataset, IntArray
from pipeline.data.plan import inspect_location
from pipeline.data.transforms import Preprocessing, eval_transform
from pipeline.evaluation.evaluate import reach
from pipeline.evaluation.table import ProfileTable

from .loading import loaded_version
from .origin import ImageSet, Origin
from .package import ORIGIN_FILE

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""

MAX_FLIPPED = 0.001
"""Share of the same images that another device may see otherwise, at least one image; chosen."""

STANDARD_ERRORS = 3
"""Of the difference between other images and those of the registered table; chosen."""


@dataclass(frozen=True)
class Comparison:
    """One profile: top-1 as registered and as counted now, in [0, 1], and how far they may be apart."""

    profile: str
    registered: float
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the two are as close as they have to be."""
        return abs(self.found - self.registered) <= self.allowed + 1e-9

    def row(self) -> list[str]:
        """Return text cells."""
        difference = self.found - self.registered
        return [
            self.profile,
            "" if self.holds else "differs",
            f"{self.registered:.4f}",
            f"{self.found:.4f}",
            f"{difference:+.4f}",
            f"{self.allowed:.4f}",
        ]


@dataclass(frozen=True)
class Verification:
    """All profiles of a version.

    Attributes:
        version: `models:/NAME/VERSION`.
        num_images: How many were counted now.
        are_same: Whether they are the images of the registered table.
        registered_on: Which images those are, as text.
        comparisons: One a profile, `full` first.
    """

    version: str
    num_images: int
    are_same: bool
    registered_on: str
    comparisons: tuple[Comparison, ...]

    @property
    def broken(self) -> list[Comparison]:
        """The profiles that do not reach what was registered."""
        return [comparison for comparison in self.comparisons if not comparison.holds]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        return asdict(self) | {"broken": [comparison.profile for comparison in self.broken]}


def verify(
    client: MlflowClient, model_uri: str, *, data: str, device: str, batch_size: int, on_progress: Progress
) -> Verification:
    """Count what all profiles of a version get right on images.

    Where these are the job's validation images, or those that it held these out of, every profile has to see
    the same images right as then. On others it may differ by chance.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        data: Location of images with labels, as in a job file.
        device: Where to compute, in torch's words.
        batch_size: Images at a time.
        on_progress: Told how far it is.

    Raises:
        RequestError: If there is no such version or data, or the data lacks the version's classes.
    """
    with loaded_version(client, model_uri, device=device) as loaded:
        config, channels = loaded.model.config, loaded.model.network.input_shape[0]
        inspection = inspect_location(
            data,
            config["class_names"],
            channels=channels,
            on_progress=lambda done, total: on_progress("checking images", done, total),
        )
        origin = Origin.from_json((loaded.package / ORIGIN_FILE).read_text(encoding="utf-8"))
        rows, are_same = validation_rows(inspection, origin, config["class_names"])
        dataset = ImageDataset(
            inspection.source.location,
            rows,
            inspection.labels[rows],
            eval_transform(Preprocessing.from_dict(config["preprocessing"])),
            fingerprint=inspection.source.fingerprint,
            decoded_bytes=inspection.decoded_bytes,
            channels=channels,
        )
        batches = DataLoader(dataset, batch_size=batch_size)
        counted = _told(batches, lambda done: on_progress("counting", done, len(batches)))
        reached = reach(loaded.model.network, counted, device=torch.device(device))
        found = {str(profile): accuracy.top1 for profile, accuracy in reached.accuracies.items()}
        return Verification(
            loaded.version.uri,
            len(rows),
            are_same,
            loaded.table.images,
            tuple(
                Comparison(
                    row.profile,
                    row.top1,
                    found[row.profile],
                    allowed_difference(row.top1, found[row.profile], loaded.table, len(rows), are_same),
                )
                for row in loaded.table.results
            ),
        )


def validation_rows(inspection: Inspection, origin: Origin, class_names: list[str]) -> tuple[IntArray, bool]:
    """Return the rows of a source that its job validated on, and whether these were found; else all rows."""
    rows = inspection.rows
    labels = inspection.labels[rows]
    candidates = [rows]
    data = origin.settings["data"]
    if data["validation"] is None:
        _, held_out = stratified.split(
            labels, validation_fraction=data["validation_fraction"], seed=origin.settings["seed"]
        )
        candidates.append(rows[held_out])
    for chosen in candidates:
        if ImageSet.of(chosen, inspection.labels[chosen], class_names) == origin.validation:
            return chosen, True
    return rows, False


def allowed_difference(
    registered: float, found: float, table: ProfileTable, num_images: int, are_same: bool
) -> float:
    """Return how far two shares of right answers may be apart.

    Args:
        registered: On the images of the table.
        found: On the images now.
        table: Which the first is from.
        num_images: Of the second.
        are_same: Whether they are the same images.
    """
    if are_same:
        return max(1, math.floor(MAX_FLIPPED * num_images)) / num_images
    share = (registered * table.num_images + found * num_images) / (table.num_images + num_images)
    return STANDARD_ERRORS * math.sqrt(share * (1 - share) * (1 / table.num_images + 1 / num_images))


def _told(
    batches: "DataLoader[tuple[Tensor, int]]", tell: Callable[[int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    for done, batch in enumerate(batches):
        tell(done)
        yield batch
