"""Reads what is registered: a job's version, a version's profile table."""

import difflib
import re
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import RequestError
from pipeline.evaluation.table import ProfileTable

from . import tags
from .failures import brief, tracking_failures
from .logged_model import read_logged_table
from .names import require_model_name
from .store import connect_existing

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[\w-]+))")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        name: The model's name.
        version: Counted from 1.
        uri: `models:/NAME/VERSION`, what `mlflow.pyfunc.load_model` takes.
        model_id: MLflow's logged model that holds the files.
    """

    name: str
    version: int
    uri: str
    model_id: str


@tracking_failures("look up a version")
def find_version(client: MlflowClient, name: str, key: str) -> RegisteredVersion | None:
    """Return the version that a job registered, None if it did not.

    Args:
        client: The store.
        name: The model's name.
        key: The job's key.

    Raises:
        RequestError: If the name cannot be a model's.
        JobError: If the store fails.
    """
    require_model_name(name)
    found = client.search_model_versions(f"name = '{name}' and tags.`{tags.MODEL_KEY}` = '{key}'")
    return min((_summary(version) for version in found), key=lambda version: version.version, default=None)


def read_profile_table(client_or_uri: MlflowClient | str, model_uri: str) -> ProfileTable:
    """Return the profile table of a registered version.

    Args:
        client_or_uri: The store, or its tracking URI.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        RequestError: If there is no such store or version, or the version holds no profile table. What
            exists is listed.
    """
    client = connect_existing(client_or_uri) if isinstance(client_or_uri, str) else client_or_uri
    version = _look_up(client, model_uri)
    if tags.PROFILES in version.tags:
        return ProfileTable.from_json(version.tags[tags.PROFILES])
    try:
        return read_logged_table(client, _summary(version).model_id)
    except (MlflowException, OSError) as error:
        message = brief(error)
    raise RequestError(
        f"a version must hold a profile table to be read, {model_uri} does not ({message}); give one that a "
        "Skipline job registered"
    )


def _look_up(client: MlflowClient, model_uri: str) -> ModelVersion:
    address = _ADDRESS.fullmatch(model_uri)
    if address is None:
        raise RequestError(
            f"a model is addressed as models:/NAME/VERSION or models:/NAME@ALIAS, got {model_uri!r}; "
            "write for example models:/quickstart/1"
        )
    name, number, alias = address["name"], address["version"], address["alias"]
    try:
        if number is not None:
            return client.get_model_version(name, number)
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        message = brief(error)
    raise RequestError(f"{model_uri} must exist ({message}); {_what_exists(client, name)}")


def _what_exists(client: MlflowClient, name: str) -> str:
    """Return the way out of an unknown address: the model's versions and aliases, or the names of models."""
    try:
        versions = sorted(
            int(version.version) for version in client.search_model_versions(f"name = '{name}'")
        )
        aliases = sorted(client.get_registered_model(name).aliases) if versions else []
        names = sorted(model.name for model in client.search_registered_models(max_results=100))
    except MlflowException as error:
        return f"what exists could not be listed ({brief(error)})"
    if versions:
        listed = ", ".join(map(str, versions))
        return f"{name} has the versions {listed} and the aliases {', '.join(aliases) or '(none)'}"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}registered models: {', '.join(names) or '(none)'}"


def _summary(version: ModelVersion) -> RegisteredVersion:
    # A database gives the version as a number, a server as text; neither fills `model_id`.
    number = int(version.version)
    model_id = (version.source or "").removeprefix("models:/")
    return RegisteredVersion(version.name, number, f"models:/{version.name}/{number}", model_id)
