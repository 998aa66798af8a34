"""Where a version comes from: its job and the images that its accuracies were counted on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Images that a job used, without saying where they lie.

    Attributes:
        num_images: How many.
        digest: Of their rows, labels and the names of the classes; the same images in the same order give
            the same, wherever they are.
    """

    num_images: int
    digest: str

    @classmethod
    def of(cls, rows: IntArray, labels: IntArray, class_names: Sequence[str]) -> Self:
        """Describe images.

        Args:
            rows: Of their source, ascending; shape (images,).
            labels: An index into the names; shape (images,).
            class_names: By label.
        """
        digest = hashlib.sha256(json.dumps(list(class_names)).encode())
        for array in (rows, labels):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return cls(len(rows), digest.hexdigest()[:32])


@dataclass(frozen=True)
class Origin:
    """What a version was made of.

    Attributes:
        job: Name of the job.
        settings: Of the training, those that a search found included; as in a job file.
        training: Images that it was trained on.
        validation: Images that its accuracies were counted on.
    """

    job: str
    settings: Mapping[str, Any]
    training: ImageSet
    validation: ImageSet

    def to_json(self) -> str:
        """Return the origin as JSON text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        training, validation = (ImageSet(**data[name]) for name in ("training", "validation"))
        return cls(data["job"], data["settings"], training, validation)
