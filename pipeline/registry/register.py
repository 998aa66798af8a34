"""Registers the one model version that a job leaves behind.

Order of the steps: files (a READY logged model), then what the run shows, then the version with its
description and tags in one transaction, then the alias of the latest. A version that exists is therefore
complete, and a job killed at any step goes on there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.evaluation.table import ProfileTable
from pipeline.gate_config import GateConfig
from pipeline.networks import AdaptiveDepthNetwork

from . import tags
from .aliases import CHALLENGER, settle_alias
from .description import describe_model, describe_version
from .failures import tracking_failures
from .logged_model import digest_tags, read_logged_file, read_logged_table, ready_model
from .names import check_model_name, require_model_name
from .origin import Origin
from .package import CHECKSUMS_FILE, PROFILES_FILE, StagedPackage, staged_package
from .profile_curves import TABLE_FILE, profile_metrics, table_columns
from .store import current_store
from .tracking import JobRun
from .versions import RegisteredVersion, find_version, latest_version, read_profile_table

__all__ = [
    "RegisteredVersion",
    "check_model_name",
    "find_version",
    "read_profile_table",
    "register_model",
]

_MAX_TAG = 100_000  # MLflow's own limit for a version's tag


@tracking_failures("register the model")
def register_model(
    client: MlflowClient,
    run: JobRun,
    *,
    name: str,
    key: str,
    network: AdaptiveDepthNetwork,
    preprocessing: Mapping[str, Any],
    class_names: Sequence[str],
    table: ProfileTable,
    origin: Origin,
    rules: GateConfig | None = None,
) -> RegisteredVersion:
    """Register a network as one version with its profile table; a key that has a version gets no second one.

    Files that an earlier attempt uploaded are used again if their weights, code and description are the
    same, with the profile table that lies beside them.

    Args:
        client: The store.
        run: The job's parent run.
        name: The registered model's name.
        key: The job's key: letters, digits, `_`, `.`, `:` and `-`.
        network: The trained network.
        preprocessing: `image_size` in pixels, `mean` and `std` of the channels, `interpolation`,
            `crop_pct`.
        class_names: Names of the outputs, in their order.
        table: The profile table.
        origin: What the network was made of.
        rules: What it must reach to become the champion; kept with the version.

    Raises:
        RequestError: If the name cannot be a model's.
        JobError: If the store fails.
    """
    require_model_name(name)
    registered = find_version(client, name, key)
    if registered is None:
        with staged_package(
            network, preprocessing=preprocessing, class_names=class_names, table=table, origin=origin
        ) as package:
            model = ready_model(run, name=name, key=key, network=network, package=package)
            table = read_logged_table(client, model.model_id)
            _show_in_run(run, model, table)
            registered = _create_version_once(
                client,
                run,
                name=name,
                key=key,
                model=model,
                package=package,
                table=table,
                rules=rules or GateConfig(),
                description=describe_version(
                    table, network=network, job=origin.job, uri=f"models:/{model.model_id}"
                ),
            )
    settle_alias(client, name, CHALLENGER, lambda: latest_version(client, name))
    return registered


def _show_in_run(run: JobRun, model: LoggedModel, table: ProfileTable) -> None:
    """Log the profile table as files and metrics; timed by the job's start, a repetition adds nothing."""
    run.log_text(table.to_json(), PROFILES_FILE)
    run.log_text(table.to_markdown(), "profiles.md")
    run.log_table(table_columns(table), TABLE_FILE)
    run.log_metrics(run.run_id, profile_metrics(table, model.model_id, timestamp_ms=run.start_time_ms))


def _create_version_once(
    client: MlflowClient,
    run: JobRun,
    *,
    name: str,
    key: str,
    model: LoggedModel,
    package: StagedPackage,
    table: ProfileTable,
    rules: GateConfig,
    description: str,
) -> RegisteredVersion:
    """Create the version; of several drivers with one key the lowest wins, the others remove theirs."""
    _ensure_registered_model(client, name)
    with current_store(client):
        created = client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            model_id=model.model_id,
            run_id=run.run_id,
            description=description,
            tags={
                tags.MODEL_KEY: key,
                tags.GATE: rules.model_dump_json(),
                tags.CHECKSUMS: read_logged_file(client, model.model_id, CHECKSUMS_FILE),
                **digest_tags(package),
                **_table_tag(table),
            },
        )
    first = find_version(client, name, key)
    if first is None:
        raise MlflowException(f"version {created.version} of {name} was created and cannot be found")
    if first.version != int(created.version):
        client.delete_model_version(name, str(created.version))
    _show_in_logged_model(client, first, description)
    return first


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    """Create the model unless it exists, and describe it unless somebody has."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, describe_model(name))


def _table_tag(table: ProfileTable) -> dict[str, str]:
    """Return the table as a tag, nothing if it is too long for one; it is read from the files then."""
    text = json.dumps(asdict(table), separators=(",", ":"))
    return {tags.PROFILES: text} if len(text) < _MAX_TAG else {}


def _show_in_logged_model(client: MlflowClient, version: RegisteredVersion, description: str) -> None:
    """Let the logged model's page show text and version; MLflow itself shows that only behind a server."""
    link = json.dumps([{"name": version.name, "version": version.version}])
    shown = {tags.MODEL_VERSIONS_LINK: link, tags.NOTE: description}
    client.set_logged_model_tags(version.model_id, shown)
