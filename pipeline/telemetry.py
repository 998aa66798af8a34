"""Third parties learn nothing by default."""

import os

TELEMETRY_OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Set unless the user has set them."""


def switch_telemetry_off() -> None:
    """Tell Ray, MLflow and others to report nothing; before they are imported."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
