"""`skipline VERB`: parse, call one function, print.

Exit codes: 0 done, 1 the job failed, 2 the request was wrong and nothing was started. What is slow to import
is imported where it is used, so that `--help` answers at once.
"""

from pipeline.telemetry import switch_telemetry_off

from . import jobs, models, networks, submissions, surroundings, versions  # noqa: F401 (their verbs join the application)
from .app import app
from .ending import listen_for_signals


def main() -> None:
    """Run the command line."""
    switch_telemetry_off()
    listen_for_signals()
    app()
