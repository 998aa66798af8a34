"""The texts of the pages of a model and of its versions, which show neither metrics nor files."""

import math
from collections.abc import Sequence

from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork

MAX_DESCRIPTION = 5000  # PostgreSQL's column

_ROOM = "&emsp;"
"""As wide as two digits; MLflow's pages give the cells of a table no distance, so headings bring it along."""


def describe_model(name: str) -> str:
    """Return what a registered model is, and how its versions are taken, as Markdown."""
    champion, challenger = f"models:/{name}@champion", f"models:/{name}@challenger"
    what = (
        "Every version is one network with many depths: one set of weights, and a table of what each depth "
        f"reaches and costs. `{champion}` is the version that passed the gate last, `{challenger}` the "
        "latest of all."
    )
    return f"""\
{what}

```python
{loading_code(challenger)}
logits = model.predict(images, params={{"profile": "base"}})
```

```bash
skipline profiles {challenger}  # what its depths reach and cost
skipline promote {challenger}   # champion, if its gate lets it
```"""


def describe_version(
    table: ProfileTable, *, network: AdaptiveDepthNetwork, job: str, uri: str, limit: int = MAX_DESCRIPTION
) -> str:
    """Return what a version is, its profile table and how to predict with it, as Markdown.

    A table that is too long loses rows, never `full` and `base`, and those of the Pareto front last; it then
    says so.

    Args:
        table: What its profiles reach and cost.
        network: What is registered.
        job: Name of the job that made it.
        uri: By which it is loaded.
        limit: Characters that there is room for.
    """
    split = ",".join(map(str, network.split))
    first = (
        f"{summarize(table)}: {network.name} at {len(table.results)} depths with one set of weights, "
        f"split {split}, from the job {job}.\n\n"
    )
    last = f"\n\n{_how_to_predict(table, uri)}"
    return first + _table(table, limit=limit - len(first) - len(last)) + last


def loading_code(uri: str) -> str:
    """Return the Python that loads a model and an image for it."""
    return f"""\
from pathlib import Path

import mlflow

model = mlflow.pyfunc.load_model("{uri}")
images = [Path("image.png").read_bytes()]  # or pixels, or tensors"""


def summarize(table: ProfileTable) -> str:
    """Return what the extreme profiles reach, and what the cheaper one costs of the other."""
    full, base = table.full, table.base
    return f"Top-1 {full.top1:.4f} (full) to {base.top1:.4f} (base, {base.macs / full.macs:.0%} of the MACs)"


def _table(table: ProfileTable, *, limit: int) -> str:
    columns = zip(table.columns(), *table.rows(), strict=True)
    headings = [_heading(name, max(map(len, cells))) for name, *cells in columns]
    head = [_line(headings), _line(["---"] * len(headings))]
    rows, order = [_line(row) for row in table.rows()], _by_importance(table)
    for count in range(len(order), 1, -1):
        kept = [rows[index] for index in sorted(order[:count])]
        left_out = (
            [] if count == len(rows) else ["", f"{count} of {len(rows)} profiles; profiles.json has all."]
        )
        text = "\n".join([*head, *kept, "", f"{table.conditions}.", *left_out])
        if len(text) <= limit:
            break
    return text[:limit]


def _heading(name: str, widest: int) -> str:
    """Return a column's heading with room behind it and, by their characters, behind its cells."""
    return name + _ROOM * (1 + max(0, math.ceil((widest - len(name)) / 2)))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _how_to_predict(table: ProfileTable, uri: str) -> str:
    example = next((row for row in table.results[1:-1] if row.is_pareto), table.base)
    budget = f"{math.ceil(example.macs / 1e6)}e6"
    return f"""\
A profile has one letter a stage: F runs it whole, T skips its second part. At one depth, or within a budget:

```python
{loading_code(uri)}
model.predict(images, params={{"profile": "{example.profile}"}})
model.predict(images, params={{"max_macs": {budget}}})  # or max_latency_ms, min_accuracy
```"""


def _by_importance(table: ProfileTable) -> list[int]:
    """Return the rows' numbers: `full`, `base`, the Pareto front, the others."""
    last = len(table.results) - 1
    inner = sorted(range(1, last), key=lambda row: not table.results[row].is_pareto)
    return [0, last, *inner]
