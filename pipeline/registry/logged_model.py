"""The logged model behind a version: MLflow's object that holds the files.

It is PENDING while files are uploaded and READY afterwards. MLflow registers a PENDING one without complaint
and then fails to load it (measured, 3.17), so only READY ones count here and the others of the same job are
removed.
"""

import contextlib
import importlib.metadata
import re
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.serving.choice import BUDGETS, ON_REQUEST

from . import tags
from .package import PACKAGE, PROFILES_FILE, StagedPackage
from .paging import pages
from .tracking import JobRun

_REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "safetensors", "numpy", "pillow")


def ready_model(
    run: JobRun, *, name: str, key: str, network: AdaptiveDepthNetwork, package: StagedPackage
) -> LoggedModel:
    """Return the job's logged model, uploaded unless an earlier attempt did so with the same contents.

    Args:
        run: The job's run, which the model is an output of.
        name: What the model is called.
        key: What makes two models the same job's.
        network: Gives the shapes of the signature.
        package: What is uploaded.

    Raises:
        MlflowException: If the store fails; the model is then marked FAILED.
    """
    for found in list(_models_of(run, key)):
        if found.status != LoggedModelStatus.READY:
            run.client.delete_logged_model(found.model_id)
        elif digest_tags(package).items() <= found.tags.items():
            return found
    model = run.client.create_logged_model(
        run.experiment_id,
        name=name.replace(".", "-"),  # MLflow allows no dots here
        source_run_id=run.run_id,
        tags={tags.MODEL_KEY: key, **digest_tags(package)},
    )
    try:
        _upload(run, model, network, package)
    except BaseException:
        with contextlib.suppress(MlflowException):
            run.client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    return run.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def digest_tags(package: StagedPackage) -> dict[str, str]:
    """Return the package's digests as tags."""
    return {tags.SHA256 + part: digest for part, digest in package.digests.to_dict().items()}


def read_logged_table(client: MlflowClient, model_id: str) -> ProfileTable:
    """Return the profile table in a logged model's files; raises MlflowException if there is none."""
    return ProfileTable.from_json(read_logged_file(client, model_id, PROFILES_FILE))


def read_logged_file(client: MlflowClient, model_id: str, name: str) -> str:
    """Return the text of a file in a logged model's package; raises MlflowException if there is none."""
    location = client.get_logged_model(model_id).artifact_location
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{location}/artifacts/{PACKAGE}/{name}",
            dst_path=folder,
            tracking_uri=client.tracking_uri,
        )
        return Path(path).read_text(encoding="utf-8")


def _models_of(run: JobRun, key: str) -> Iterator[LoggedModel]:
    search = partial(run.client.search_logged_models, [run.experiment_id])
    return pages(partial(search, filter_string=f"tags.`{tags.MODEL_KEY}` = '{key}'"))


def _upload(run: JobRun, model: LoggedModel, network: AdaptiveDepthNetwork, package: StagedPackage) -> None:
    """Save the MLflow model locally and upload it; unlike `log_model` this needs no process-wide store."""
    with tempfile.TemporaryDirectory(prefix="model-") as temporary, warnings.catch_warnings():
        # An example would be megabytes of JSON that every load parses; the signature says the same.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        folder = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package.script),
            artifacts={PACKAGE: str(package.folder)},
            signature=_signature(network),
            model_config={"device": "cpu", "calibrate": False},
            pip_requirements=list(requirements()),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=run.run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            ),
        )
        run.client.log_model_artifacts(model.model_id, str(folder))
    run.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])


def _signature(network: AdaptiveDepthNetwork) -> ModelSignature:
    """Return parameters and output; no schema of MLflow's takes tensors as well as files, so input has none.

    `serving.ImageReader` refuses what is not an image.
    """
    logits = TensorSpec(np.dtype(np.float32), (-1, network.description.num_classes))
    return ModelSignature(
        outputs=Schema([logits]),
        params=ParamSchema(
            [
                ParamSpec("profile", DataType.string, None),
                *(ParamSpec(name, DataType.double, None) for name in BUDGETS),
                ParamSpec(ON_REQUEST, DataType.boolean, None),
            ]
        ),
    )


def requirements() -> tuple[str, ...]:
    """Return what a consumer installs, pinned to what is installed here.

    A local version such as `2.6.0+cpu` exists on no public index; its suffix is left out. MLflow's own
    inference is not used: it takes ten seconds and leaves torch out (measured, 3.17).
    """
    pins = []
    for package in _REQUIREMENTS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            pins.append(f"{package}=={re.sub(r'[+].*', '', importlib.metadata.version(package))}")
    return tuple(pins)
