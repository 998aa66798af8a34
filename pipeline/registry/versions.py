"""Reads what is registered: a job's version, a version's profile table."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import RequestError
from pipeline.evaluation.table import ProfileTable

from . import tags
from .failures import brief, tracking_failures
from .logged_model import read_logged_table
from .names import require_model_name
from .paging import pages
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

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class ListedVersion:
    """What a list of versions tells about one.

    Attributes:
        uri: `models:/NAME/VERSION`.
        aliases: That point to it, by name.
        table: Its profile table; None if the version itself does not hold it.
    """

    uri: str
    aliases: tuple[str, ...]
    table: ProfileTable | None

    def row(self) -> list[str]:
        """Return text cells: address, aliases, number of profiles, then top-1 and MMACs of the extremes."""
        cells = [self.uri, ", ".join(self.aliases)]
        if self.table is None:
            return [*cells, "?", "", "", "", ""]
        full, base = self.table.full, self.table.base
        accuracies = [f"{row.top1:.4f}" for row in (full, base)]
        return [
            *cells,
            str(len(self.table.results)),
            *accuracies,
            *(f"{row.macs / 1e6:.1f}" for row in (full, base)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        table = self.table and json.loads(self.table.to_json())
        return {"uri": self.uri, "aliases": list(self.aliases), "table": table}


@tracking_failures("list versions")
def list_versions(client: MlflowClient, name: str | None = None) -> list[ListedVersion]:
    """Return the registered versions, the latest of each model first.

    Args:
        client: The store.
        name: Of one model; None is all.

    Raises:
        RequestError: If there is no such model.
        JobError: If the store fails.
    """
    names = sorted(model.name for model in pages(client.search_registered_models))
    if name is not None and name not in names:
        raise RequestError(f"a registered model must exist, {name!r} does not; {_what_exists(client, name)}")
    listed = []
    for model in names if name is None else [name]:
        found = all_versions(client, model)
        # Only the model itself knows them: a search leaves them out.
        aliases = client.get_registered_model(model).aliases
        for version in sorted(found, key=lambda version: -int(version.version)):
            number = int(version.version)
            listed.append(
                ListedVersion(
                    f"models:/{model}/{number}",
                    tuple(sorted(alias for alias, target in aliases.items() if int(target) == number)),
                    table_of(version),
                )
            )
    return listed


def require_version(client: MlflowClient, model_uri: str) -> RegisteredVersion:
    """Return the version that an address means.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        RequestError: If there is none. What exists is listed.
    """
    return _summary(look_up(client, model_uri))


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
    version = look_up(client, model_uri)
    if table := table_of(version):
        return table
    try:
        return read_logged_table(client, _summary(version).model_id)
    except (MlflowException, OSError) as error:
        message = brief(error)
    raise RequestError(
        f"a version must hold a profile table to be read, {model_uri} does not ({message}); give one that a "
        "Skipline job registered"
    )


def look_up(client: MlflowClient, model_uri: str) -> ModelVersion:
    """Return MLflow's entity of the version that an address means; raises RequestError if there is none."""
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


def all_versions(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    """Yield every version of a registered model; raises MlflowException if the store fails."""
    return pages(partial(client.search_model_versions, f"name = '{name}'"))


def look_up_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias of a model shows, None if there is no such alias or model."""
    try:
        number = client.get_registered_model(name).aliases.get(alias)
        return None if number is None else client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def latest_version(client: MlflowClient, name: str) -> int | None:
    """Return the highest version of a registered model, None if it has none."""
    return max((int(version.version) for version in all_versions(client, name)), default=None)


def table_of(version: ModelVersion) -> ProfileTable | None:
    """Return the profile table in a version's tag, if it is there."""
    text = version.tags.get(tags.PROFILES)
    return ProfileTable.from_json(text) if text else None


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
