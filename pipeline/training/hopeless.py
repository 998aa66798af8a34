"""Failures of workers that a restart cannot mend, such as an image that is gone."""

from typing import Any

from ray.train import UserCallback

from pipeline.errors import JobError


class HopelessCallback(UserCallback):  # type: ignore[misc]
    """Ends a run whose workers raised what Skipline itself reports: Ray restarts whatever it was.

    What a callback raises ends the run at once, as a ControllerError.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ANN401, ARG002
        """Called in the controller of the run, before it decides about a restart."""
        for error in worker_exceptions.values():
            if isinstance(error, JobError):
                raise error
