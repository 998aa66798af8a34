"""Loads a registered version on this machine, after its files were compared with its tags."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import RequestError
from pipeline.evaluation.table import ProfileTable

from . import tags
from .failures import brief
from .package import CHECKSUMS_FILE, PACKAGE
from .store import current_store
from .versions import RegisteredVersion, require_version


@dataclass(frozen=True)
class LoadedVersion:
    """A version in this process, with the code that it holds itself.

    Attributes:
        version: Which one.
        served: MLflow's model, whose `predict` is what consumers call.
        package: Its files; there until the block ends.
    """

    version: RegisteredVersion
    served: Any
    package: Path

    @property
    def model(self) -> Any:  # noqa: ANN401
        """The version's own `AdaptiveDepthModel`."""
        return self.served.unwrap_python_model()

    @property
    def table(self) -> ProfileTable:
        """The profile table as registered."""
        return ProfileTable.from_json(self.model.table.to_json())


@contextmanager
def loaded_version(client: MlflowClient, model_uri: str, *, device: str = "cpu") -> Iterator[LoadedVersion]:
    """Download a version to a temporary folder and load it.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        device: Where it computes.

    Raises:
        RequestError: If there is no such version, its files are not those that were registered, or it cannot
            be loaded.
    """
    version = require_version(client, model_uri)
    # A local store would hand out its own folder, into which loading writes.
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            with current_store(client):
                files = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.uri, dst_path=folder))
                package = files / "artifacts" / PACKAGE
                require_registered_files(client, version, package)
                served = mlflow.pyfunc.load_model(str(files), model_config={"device": device})
        except (MlflowException, OSError) as error:
            message = brief(error).removeprefix("MlflowException: ")
        else:
            yield LoadedVersion(version, served, package)
            return
    raise RequestError(f"a version must be able to be loaded, {model_uri} is not: {message}")


def require_registered_files(client: MlflowClient, version: RegisteredVersion, package: Path) -> None:
    """Raise RequestError if a package lists other checksums than the version's tag.

    The model itself compares its files with the list at loading.
    """
    found = client.get_model_version(version.name, str(version.version)).tags.get(tags.CHECKSUMS)
    if found is not None and found != (package / CHECKSUMS_FILE).read_text(encoding="utf-8"):
        raise RequestError(
            f"files must be those that were registered, {CHECKSUMS_FILE} of {version.uri} differs from the "
            f"version's tag {tags.CHECKSUMS}; somebody exchanged the files in the artifact store"
        )
