"""Jobs on a cluster that others administer, by Ray's job API: submitted, listed, followed, stopped.

A job is known by the name in its file. Each time it is submitted makes a submission of its own, `NAME-1`,
`NAME-2`; the later ones go on where the earlier ones ended, as the command that they run always does.
"""

import asyncio
import contextlib
import os
import shlex
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from ray.util.state import list_nodes

from pipeline.errors import RequestError, SkiplineError

from .runtime import Capacity

NAME_KEY = "skipline.job"
"""Of the metadata of a submission."""

TIMEOUT_S = 8.0
"""How long the dashboard may take to accept a connection."""

GRACE_S = 30
"""Between the request to stop and the end by force. Chosen: Ray's own 3 s do not suffice to stop a training
and to close the run in MLflow (7 s, measured)."""

STOP_TIMEOUT_S = 60.0
"""How long a stop is waited for."""

POLL_S = 0.5

_MANY = 10_000  # nodes of one list
_MAX_PAUSE_S = 30.0  # between two tries to follow a log again


class UnknownJobError(RequestError):
    """The cluster knows no such job."""


@dataclass(frozen=True)
class Demand:
    """What the command of a job takes for itself, beside what it starts.

    Attributes:
        cpus: Cores; 0 lets it run on a head node that offers none.
        labels: Of the node, each of which must be as given.
    """

    cpus: float = 0
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Submission:
    """One time that a job was submitted.

    Attributes:
        id: Unique on the cluster.
        job: The name in the job's file.
        status: As Ray calls it.
        message: What Ray says of it.
        exit_code: Of the job's own command; None while it runs and where it did not end by itself.
        start_s: Unix time; None before it started.
        end_s: Unix time; None while it runs.
        labels: Given when it was submitted.
    """

    id: str
    job: str
    status: JobStatus
    message: str
    exit_code: int | None
    start_s: float | None
    end_s: float | None
    labels: Mapping[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return bool(self.status.is_terminal())

    @classmethod
    def of(cls, details: JobDetails) -> "Submission":
        """Return what Ray knows of a submission of ours."""
        metadata = dict(details.metadata or {})
        return cls(
            id=details.submission_id,
            job=metadata.pop(NAME_KEY),
            status=details.status,
            message=(details.message or "").strip(),
            exit_code=details.driver_exit_code,
            start_s=_seconds(details.start_time),
            end_s=_seconds(details.end_time) if details.status.is_terminal() else None,
            labels={
                key: value for key, value in metadata.items() if key not in ("job_submission_id", "job_name")
            },
        )


class Cluster:
    """A cluster, reached by the HTTP address of its dashboard.

    Args:
        address: Such as http://127.0.0.1:8265.

    Raises:
        RequestError: If there is no such cluster, or it does not let us in.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        _require_listener(address)
        with _refusals(address):
            self._client = JobSubmissionClient(address)

    def submissions(self) -> list[Submission]:
        """Return all submissions of Skipline's jobs, the oldest first."""
        with _refusals(self.address):
            jobs = self._client.list_jobs()
        ours = [Submission.of(job) for job in jobs if NAME_KEY in (job.metadata or {})]
        return sorted(ours, key=lambda one: (one.start_s or float("inf"), one.id))

    def latest(self, name: str) -> Submission:
        """Return the latest submission of a job, or the one with that id.

        Raises:
            UnknownJobError: If there is none.
        """
        known = self.submissions()
        found = [one for one in known if name in (one.job, one.id)]
        if found:
            return found[-1]
        jobs = ", ".join(dict.fromkeys(one.job for one in known)) or "none"
        raise UnknownJobError(
            f"a submitted job is known by the name in its file or by its id, got {name!r}; {self.address} "
            f"knows {jobs}"
        )

    def running(self, job: str) -> Submission | None:
        """Return the submission of a job that has not ended, if there is one."""
        return next((one for one in self.submissions() if one.job == job and not one.has_ended), None)

    def capacity(self) -> Capacity:
        """Return what the nodes that are alive offer."""
        with _refusals(self.address):
            nodes = list_nodes(
                address=self.address,
                filters=[("state", "=", "ALIVE")],
                limit=_MANY,
                raise_on_missing_output=False,
            )
        totals = [node.resources_total or {} for node in nodes]
        return Capacity(tuple((int(total.get("CPU", 0)), int(total.get("GPU", 0))) for total in totals))

    def submit(
        self,
        job: str,
        command: Sequence[str],
        *,
        archive: Path,
        environment: Mapping[str, Any],
        labels: Mapping[str, str],
        demand: Demand,
    ) -> Submission:
        """Start a job.

        Args:
            job: Its name.
            command: Run in the folder that the archive is unpacked to.
            archive: A zip file.
            environment: Keys of Ray's runtime environment beside the folder.
            labels: To find it by.
            demand: Of the command itself.
        """
        earlier = [one for one in self.submissions() if one.job == job]
        number = 1 + max((int(one.id.rpartition("-")[2]) for one in earlier), default=0)
        submission_id = f"{job}-{number}"
        with _refusals(self.address):
            self._client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=submission_id,
                runtime_env={
                    "working_dir": str(archive),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)},
                    **environment,
                },
                metadata={**labels, NAME_KEY: job},
                entrypoint_num_cpus=demand.cpus,
                entrypoint_label_selector=dict(demand.labels or {}) or None,
            )
        return self.latest(submission_id)

    def log(self, submission: Submission) -> str:
        """Return what a submission has printed so far."""
        with _refusals(self.address):
            text: str = self._client.get_job_logs(submission.id)
        return text

    def follow(
        self, submission: Submission, show: Callable[[str], None], note: Callable[[str], None]
    ) -> Submission:
        """Show what a submission has printed and prints, until it has ended.

        A dashboard that goes away is waited for: the job may well go on meanwhile.

        Args:
            submission: To follow.
            show: Told the text, in pieces that are not lines.
            note: Told that the dashboard went away, and that it is back.

        Returns:
            The submission as it ended.

        Raises:
            SkiplineError: If the cluster has forgotten it, as one does whose head was restarted.
        """
        num_shown, pause_s = 0, 1.0
        while True:
            try:
                # First of all, since the log of a forgotten job fails as one does that cannot be reached.
                self.latest(submission.id)
                for piece in _pieces(self._client.tail_job_logs(submission.id), skip=num_shown):
                    show(piece)
                    num_shown += len(piece)
                if pause_s > 1:
                    note(f"{self.address} answers again")
                    pause_s = 1.0
                latest = self.latest(submission.id)
                if latest.has_ended:
                    return latest
                time.sleep(POLL_S)
            except UnknownJobError as error:
                raise SkiplineError(
                    f"{self.address} no longer knows {submission.id}, as is so where the head was started "
                    "again; `skipline submit` with the same job goes on with it"
                ) from error
            except (RequestError, RuntimeError, aiohttp.ClientError, OSError) as error:
                if pause_s == 1:
                    reason = type(error).__name__
                    note(f"{self.address} does not answer ({reason}); the job may go on, trying again")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def stop(self, submission: Submission) -> Submission:
        """Ask a submission to stop and wait until it has.

        Raises:
            SkiplineError: If it does not stop in time.
        """
        with _refusals(self.address):
            self._client.stop_job(submission.id)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while not (latest := self.latest(submission.id)).has_ended:
            if time.monotonic() > deadline_s:
                raise SkiplineError(
                    f"{submission.id} must stop within {STOP_TIMEOUT_S:g} s, it is {latest.status}; see "
                    f"{self.address}, or ask again"
                )
            time.sleep(POLL_S)
        return latest


def _pieces(chunks: AsyncIterator[str], *, skip: int) -> Iterator[str]:
    """Yield what an asynchronous iterator gives, without so many characters at its start."""
    with asyncio.Runner() as runner:
        while (chunk := runner.run(_next(chunks))) is not None:
            fresh, skip = chunk[skip:], max(0, skip - len(chunk))
            if fresh:
                yield fresh


async def _next(chunks: AsyncIterator[str]) -> str | None:
    return await anext(chunks, None)


def _require_listener(address: str) -> None:
    """Raise RequestError if nobody listens; the job client itself knows no time limit."""
    place = urlsplit(address)
    if place.scheme not in ("http", "https") or place.hostname is None:
        raise RequestError(
            f"a cluster is reached by the HTTP address of its dashboard, got {address!r}; give for example "
            "--address http://127.0.0.1:8265"
        )
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname, port), timeout=TIMEOUT_S).close()
    except OSError as error:
        raise RequestError(
            f"the dashboard of the cluster must answer, {address} does not ({error}); see that it runs, or "
            "bring its port here, such as `ssh -L 8265:127.0.0.1:8265 HEAD` or "
            "`kubectl port-forward service/NAME-head-svc 8265:8265`"
        ) from error


@contextlib.contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Report what a dashboard says to a request as a RequestError."""
    try:
        yield
    except AuthenticationError as error:
        given = "was refused" if os.environ.get("RAY_AUTH_TOKEN") else "is not set"
        raise RequestError(
            f"the cluster at {address} asks for a token, and RAY_AUTH_TOKEN {given}; set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's"
        ) from error
    except (RuntimeError, ConnectionError, requests.RequestException, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RequestError(
            f"the cluster at {address} must carry out the request, it did not ({first}); see that it runs "
            "and that the address is that of its dashboard"
        ) from error


def _seconds(milliseconds: int | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000
