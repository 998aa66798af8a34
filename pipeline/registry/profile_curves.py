"""The profile table as MLflow draws and lists it: metrics that are curves, and a table that its pages show.

A single value has a chart of its own in MLflow, so a name a profile would give hundreds of charts. Here the
profiles are the steps of one metric a measure, from the cheapest to `full`: one chart each, in which several
jobs lie over each other.
"""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric

from pipeline.evaluation.table import ProfileTable

TABLE_FILE = "profile_table.json"
"""The logged table among a run's files."""

_MEASURES = ("top1", "top5", "loss", "macs", "parameters", "latency_p50_ms", "latency_p95_ms")

_COLUMNS = ("profile", "top1", "macs", "latency_p50_ms", "is_pareto", "trained")
"""That a page shows without being scrolled."""


def steps_of(table: ProfileTable) -> list[int]:
    """Return the place of every profile by its MACs, from 1; the last is the whole network."""
    by_cost = sorted(range(len(table.results)), key=lambda row: (table.results[row].macs, -row))
    places = {row: place for place, row in enumerate(by_cost, start=1)}
    return [places[row] for row in range(len(table.results))]


def profile_metrics(table: ProfileTable, model_id: str, *, timestamp_ms: int) -> list[Metric]:
    """Return `profiles/MEASURE`, with a step a profile, and `result/…`, by which jobs are compared in a list.

    Args:
        table: What the profiles reach and cost.
        model_id: MLflow's logged model, whose page lists single values alone and is told the result.
        timestamp_ms: Milliseconds since 1970; the same at every attempt, so that nothing is logged twice.
    """
    points = [
        (f"profiles/{measure}", getattr(row, measure), step)
        for row, step in zip(table.results, steps_of(table), strict=True)
        for measure in _MEASURES
        if getattr(row, measure) is not None
    ]
    result = _result(table).items()
    return [
        *(Metric(name, float(value), timestamp_ms, step) for name, value, step in points),
        *(Metric(f"result/{name}", value, timestamp_ms, 0, model_id=model_id) for name, value in result),
    ]


def table_columns(table: ProfileTable) -> dict[str, list[Any]]:
    """Return the table by column, as it was measured, with the step of each profile in the curves."""
    names = [*_COLUMNS, *(name for name in _MEASURES if name not in _COLUMNS)]
    columns = {name: [getattr(row, name) for row in table.results] for name in names}
    kept = {name: values for name, values in columns.items() if None not in values}
    return {**kept, "step": steps_of(table)}


def _result(table: ProfileTable) -> Mapping[str, float]:
    full, base = table.full, table.base
    return {"full_top1": full.top1, "base_top1": base.top1, "base_cost": base.macs / full.macs}
