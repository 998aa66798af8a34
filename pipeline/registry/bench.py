"""Measures a registered version on this machine, and keeps the latencies with the version.

They are an entry of their own beside the registered table, one for each device, number of threads and images
in a call: the gate judges versions by what was registered, which nobody changes afterwards.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from pipeline.errors import RequestError
from pipeline.evaluation.table import LatencyConditions, ProfileTable
from pipeline.networks.cost import Latency

from . import tags
from .failures import tracking_failures
from .loading import loaded_version
from .versions import look_up, read_profile_table


def bench(
    client: MlflowClient,
    model_uri: str,
    *,
    batch_size: int,
    device: str,
    on_progress: Callable[[int, int], None],
) -> ProfileTable:
    """Measure all profiles here, and store the latencies in a tag of the version.

    Budgets of calls on this machine go by the same measurement from now on (see `calibrate`).

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        batch_size: Images of one call.
        device: What to measure, in torch's words.
        on_progress: Told how many profiles of how many have been measured.

    Returns:
        The version's table with the latencies of this machine.

    Raises:
        RequestError: If there is no such version or device.
        JobError: If the store fails.
    """
    with loaded_version(client, model_uri, device=device) as loaded:
        found = loaded.model.calibrate(batch_size, anew=True, on_progress=on_progress)
        table = ProfileTable.from_json(found.to_json())
        version = loaded.version
    latencies = {
        "conditions": asdict(table.latency),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "milliseconds": {row.profile: [row.latency_p50_ms, row.latency_p95_ms] for row in table.results},
    }
    with tracking_failures("store latencies"):
        client.set_model_version_tag(
            version.name, str(version.version), _tag(table.latency), json.dumps(latencies)
        )
    return table


def benched_tables(client: MlflowClient, model_uri: str) -> list[ProfileTable]:
    """Return a version's table with the latencies of every machine that `bench` measured.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        RequestError: If there is no such version, or it holds no profile table.
    """
    registered = read_profile_table(client, model_uri)
    return [
        registered.with_latencies(latencies, conditions)
        for latencies, conditions in _benched(look_up(client, model_uri))
    ]


def table_measured_on(client: MlflowClient, model_uri: str, where: str) -> ProfileTable:
    """Return a version's table with the latencies of one machine.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        where: A part of what `LatencyConditions` says of it.

    Raises:
        RequestError: If there is none such, or more than one.
    """
    registered = read_profile_table(client, model_uri)
    # What was measured under the conditions of the registered table came later.
    tables = {str(table.latency): table for table in (registered, *benched_tables(client, model_uri))}
    found = [conditions for conditions in tables if where.lower() in conditions.lower()]
    if len(found) == 1:
        return tables[found[0]]
    listed = "; ".join(tables)
    raise RequestError(
        f"one machine is named by a part of its conditions that no other has, {where!r} fits {len(found)} "
        f"of: {listed}"
    )


def _benched(version: ModelVersion) -> Iterator[tuple[dict[str, Latency], LatencyConditions]]:
    for name, text in sorted(version.tags.items()):
        if name.startswith(tags.LATENCIES):
            stored = json.loads(text)
            yield (
                {profile: Latency(*times) for profile, times in stored["milliseconds"].items()},
                LatencyConditions(**stored["conditions"]),
            )


def _tag(conditions: LatencyConditions) -> str:
    digest = hashlib.sha256(json.dumps(asdict(conditions)).encode()).hexdigest()
    return tags.LATENCIES + digest[:12]
