"""`skipline VERB`: parse, call one function, print.

Exit codes: 0 done, 1 the job failed, 2 the request was wrong and nothing was started. What is slow to import
is imported where it is used, so that `--help` answers at once.
"""

import os

from . import jobs, models, networks, submissions, surroundings, versions  # noqa: F401 (their verbs join the application)
from .app import app
from .ending import listen_for_signals

TELEMETRY_OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Set unless the user has set them: third parties learn nothing by default."""


def main() -> None:
    """Run the command line."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    listen_for_signals()
    app()
