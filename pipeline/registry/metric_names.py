"""What MLflow is told about an epoch: its metrics, under names that its pages group well.

A page has one section of charts for all names with the same text before their last slash. The names in a
job's folder are those that job files speak of (`training.best_by: full/top1`); they stay, and only the
figures beside them are renamed here.
"""

from collections.abc import Mapping

_WEIGHTS = ("raw", "ema")
"""Of these an epoch's metrics are told, too, where the better ones are the epoch's."""

_SAME_FOR_ALL_WEIGHTS = "base/cost"


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's metrics as MLflow shows them.

    `raw/full/top1` becomes `full/top1_raw` and lies beside `full/top1`. The base-net's cost, which no weights
    change, is told once.

    Args:
        metrics: By their names in the job's folder.
    """
    return {
        _shown_name(name): value
        for name, value in metrics.items()
        if name == _SAME_FOR_ALL_WEIGHTS or not name.endswith(f"/{_SAME_FOR_ALL_WEIGHTS}")
    }


def _shown_name(name: str) -> str:
    weights, _, rest = name.partition("/")
    return f"{rest}_{weights}" if weights in _WEIGHTS else name
