"""Classifies image files with a registered version, as a consumer of it would."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import RequestError

from .failures import brief
from .loading import loaded_version


@dataclass(frozen=True)
class Classified:
    """The class of one image with the highest probability, in [0, 1]."""

    name: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a version says about images.

    Attributes:
        profile: The depth that ran, in letters.
        latency: On what its latencies were measured.
        classes: One an image.
    """

    profile: str
    latency: str
    classes: tuple[Classified, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        return asdict(self)


def classify(
    client: MlflowClient,
    model_uri: str,
    images: Sequence[Path],
    *,
    params: Mapping[str, Any],
    calibrates: bool = False,
) -> Answer:
    """Load a version, and classify files by it.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        images: PNG or JPEG files.
        params: As for the model's `predict`.
        calibrates: Measure on this machine first how long a call with so many images takes.

    Raises:
        RequestError: If there is no such version, a file cannot be read, or a parameter does not fit.
    """
    files = [_read(path) for path in images]
    with loaded_version(client, model_uri) as loaded:
        try:
            if calibrates:
                loaded.model.calibrate(len(files))
            answer = loaded.served.predict(files, params={**params, "return_profile": True})
        except MlflowException as error:
            message = brief(error).removeprefix("MlflowException: ")
        else:
            highest = torch.from_numpy(answer["logits"]).softmax(1).max(1)
            best = zip(highest.indices.tolist(), highest.values.tolist(), strict=True)
            names = loaded.model.config["class_names"]
            classes = tuple(Classified(names[index], probability) for index, probability in best)
            return Answer(answer["profile"], answer["latency"], classes)
    raise RequestError(f"{model_uri} must be able to predict, it refused: {message}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"an image must be a file that can be read, {path} is not ({error.strerror}); correct the path"
        ) from error
