"""Looks at the tracking store: reached, known to us, written, read back and deleted, files included."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
from boto3.exceptions import Boto3Error
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from packaging.version import Version

from pipeline.config import S3Config
from pipeline.errors import RequestError
from pipeline.registry.failures import brief, failure_chain
from pipeline.registry.masking import mask_credentials
from pipeline.registry.store import (
    connect_existing,
    default_artifact_root,
    ensure_experiment,
    sqlite_path,
)
from pipeline.storage import StoragePath
from pipeline.storage.object_store import WRITE, StoreError, explain_failure

from .clock import judge_clock, now_s
from .findings import Doubt, NotNeededError, Problem

_TIMEOUT_S = 5
_HOST_REFUSED = "Invalid Host header"
_REPLICA = "see that what is written and what is read is one database, not a replica that lags behind"
_GRANT = (
    "grant this user EDIT on experiments and registered models (client.grant_user_permission), or log in as "
    "another by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
)
_STORE_FAILURES = (MlflowException, requests.RequestException, Boto3Error, *StoreError, OSError)
_SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@dataclass(frozen=True)
class TrackingStore:
    """The store that a job would use.

    Attributes:
        uri: Any URI that MLflow takes.
        storage: Where the files go when a database is addressed directly.
        s3: How that is reached, if it is an object store.
    """

    uri: str
    storage: str
    s3: S3Config

    @property
    def is_server(self) -> bool:
        """Whether it is reached by HTTP."""
        return urlsplit(self.uri).scheme in ("http", "https")

    def reach(self) -> str:
        """Ask for one experiment; raises Problem with what to change where that is not answered."""
        if not self.is_server:
            return self._reach_database()
        answer = self._get(_SEARCH)
        if answer.status_code != requests.codes.ok:
            raise self._refused(answer)
        return f"{mask_credentials(self.uri)} answers"

    def version(self) -> str:
        """Compare the server's version with the client's."""
        ours = Version(mlflow.__version__)
        if not self.is_server:
            return f"MLflow {ours} knows the schema of the database"
        answer = self._get("/version")
        if answer.status_code != requests.codes.ok:
            raise NotNeededError(f"the server does not say its version ({answer.status_code})")
        theirs = Version(answer.text.strip())
        seen = f"server {theirs}, client {ours}"
        if theirs.major != ours.major:
            raise Problem(seen, f"install the server's major version: pip install 'mlflow~={theirs.major}.0'")
        if theirs.release[:2] < ours.release[:2]:
            raise Doubt(seen, f"bring the server to MLflow {ours}, or the client to {theirs}")
        return seen

    def clock(self) -> str:
        """Return how far the server's clock is from this machine's."""
        if not self.is_server:
            raise NotNeededError("a database says no time")
        start_s = now_s()
        date = self._get("/health").headers.get("Date")
        return judge_clock(date, start_s=start_s, end_s=now_s(), whose="the tracking server")

    def runs(self) -> str:
        """Write a metric of a run, read it back and delete the run."""
        with _asking("write a run"), self._run() as run:
            run.client.log_metric(run.run_id, "value", 0.5, step=1)
            history = run.client.get_metric_history(run.run_id, "value")
        if [(metric.value, metric.step) for metric in history] != [(0.5, 1)]:
            raise Problem("a metric that was written is not read back", _REPLICA)
        return (
            f"run {run.run_id}: a metric written, read back; deleted (MLflow keeps deleted runs, here of "
            f"experiment {_experiment()}, until `mlflow gc`)"
        )

    def artifacts(self) -> str:
        """Write a file of a run, read it back and delete it, the way a job's files go."""
        with _asking("write a run's file"), self._run() as run:
            place = run.client.get_run(run.run_id).info.artifact_uri
            scheme = urlsplit(place).scheme
            if self.is_server and scheme in ("", "file"):
                raise Problem(
                    f"the server keeps files in {place}, a folder of its own machine that it does not serve",
                    "start the server with --serve-artifacts and --artifacts-destination s3://BUCKET/PREFIX; "
                    "experiments that exist keep their place, name a new one in registry.experiment",
                )
            try:
                self._file_round_trip(place)
            except _STORE_FAILURES as error:
                raise self._no_files(error, place) from error
        way = "through the server" if scheme == "mlflow-artifacts" else f"directly, in {place.split('/')[2]}"
        return f"a file written, read back, deleted {way}" if scheme != "file" else "a file written, deleted"

    def models(self) -> str:
        """Make a registered model, read it back and delete it."""
        client, name = self._client(), f"skipline-doctor-{secrets.token_hex(8)}"
        with _asking("make a registered model"):
            client.create_registered_model(name, tags={"value": "1"})
            with _removing(f"registered model {name}", lambda: client.delete_registered_model(name)):
                is_same = client.get_registered_model(name).tags == {"value": "1"}
        if not is_same:
            raise Problem("a registered model that was written is not read back", _REPLICA)
        return f"{name}: made, read back, deleted"

    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def _run(self) -> Iterator["_Run"]:
        """Yield a run that is deleted when the block ends."""
        client = self._client()
        root = default_artifact_root(self.uri, storage=StoragePath.parse(self.storage, self.s3))
        run = client.create_run(ensure_experiment(client, _experiment(), artifact_root=root))
        run_id: str = run.info.run_id
        with _removing(f"run {run_id} of experiment {_experiment()}", lambda: client.delete_run(run_id)):
            yield _Run(client, run_id)

    def _file_round_trip(self, place: str) -> None:
        repository = get_artifact_repository(place, tracking_uri=self.uri)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "skipline-doctor.txt"
            file.write_text(secrets.token_hex(512))
            repository.log_artifact(str(file))
            with _removing(f"file {place}/{file.name}", lambda: repository.delete_artifacts(file.name)):
                (Path(folder) / "copy").mkdir()
                copy = Path(repository.download_artifacts(file.name, str(Path(folder) / "copy")))
                is_same = copy.read_text() == file.read_text()
        if not is_same:
            raise Problem(f"{place} does not give back what was written", "see the object store's own log")

    def _no_files(self, error: Exception, place: str) -> Problem:
        """Return why files cannot be kept, and whose credentials or bucket are to be mended."""
        if urlsplit(place).scheme == "s3":
            root = next((link for link in failure_chain(error) if isinstance(link, StoreError)), error)
            seen, _, fix = explain_failure(root, place, self.s3, WRITE).rpartition("; ")
            return Problem(seen, f"{fix}; the client itself reaches this store, by MLFLOW_S3_ENDPOINT_URL")
        return Problem(
            f"the server cannot keep files ({brief(error)})",
            "see that the bucket of --artifacts-destination exists and that the server (not the client) has "
            "MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for it",
        )

    def _reach_database(self) -> str:
        path = sqlite_path(self.uri)
        if path is not None and not path.exists():
            raise NotNeededError(f"{path} is made by the first job")
        try:
            connect_existing(self.uri, timeout_s=_TIMEOUT_S)
        except RequestError as error:
            seen, _, fix = str(error).rpartition("; ")
            if "out-of-date database schema" in seen:
                fix = f"stop its users, back it up, and run `mlflow db upgrade {_shown(self.uri)}`"
            raise Problem(seen, fix) from error
        return f"{_shown(self.uri)} answers"

    def _get(self, path: str) -> requests.Response:
        try:
            answer: requests.Response = http_request(
                get_default_host_creds(self.uri),
                path,
                "GET",
                max_retries=0,
                timeout=_TIMEOUT_S,
                raise_on_status=False,
            )
        except MlflowException as error:
            raise Problem(
                f"{_shown(self.uri)} does not answer ({brief(error)})",
                "start the server, or correct --tracking-uri, registry.tracking_uri or MLFLOW_TRACKING_URI",
            ) from error
        return answer

    def _refused(self, answer: requests.Response) -> Problem:
        """Return why the server lets nobody in, or not us."""
        seen = f"{_shown(self.uri)} answers {answer.status_code}"
        if answer.status_code == requests.codes.unauthorized:
            given = "were refused" if os.environ.get("MLFLOW_TRACKING_USERNAME") else "are not set"
            return Problem(
                f"{seen}: it asks for a user name and password, and those of the environment {given}",
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user of the server",
            )
        if _HOST_REFUSED in answer.text:
            host = urlsplit(self.uri).netloc.rpartition("@")[2]
            return Problem(
                f"{seen}: it does not take requests for the host name {host}",
                f"start the server with --allowed-hosts '{host}' (or MLFLOW_SERVER_ALLOWED_HOSTS={host}), "
                "beside the names that it has, separated by commas",
            )
        if answer.status_code == requests.codes.forbidden:
            return Problem(f"{seen}: this user may not list experiments", _GRANT)
        return Problem(
            f"{seen} to {_SEARCH}: {answer.text[:200]}",
            "see that the tracking URI is that of an MLflow server, and what the server's log says",
        )


@dataclass(frozen=True)
class _Run:
    client: MlflowClient
    run_id: str


@contextmanager
def _removing(what: str, remove: Callable[[], object]) -> Iterator[None]:
    """Remove what was made when the block ends, however it does; says what is left behind."""
    try:
        yield
    except BaseException:
        with suppress(*_STORE_FAILURES):
            remove()
        raise
    try:
        remove()
    except _STORE_FAILURES as error:
        raise Problem(f"{what} is left behind: it cannot be deleted ({brief(error)})", _GRANT) from error


@contextmanager
def _asking(action: str) -> Iterator[None]:
    """Report what a store says to a request as a Problem."""
    try:
        yield
    except RequestError as error:
        seen, _, fix = str(error).rpartition("; ")
        raise Problem(seen, fix) from error
    except MlflowException as error:
        is_refused = error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED")
        fix = _GRANT if is_refused else "see what the log of the server says at this time"
        raise Problem(f"the store refuses to {action} ({brief(error)})", fix) from error


def _experiment() -> str:
    """Return the experiment of the runs that are made to be deleted.

    It stays, so that not every look leaves an experiment behind; each user's is their own, because whoever
    makes one may alone be allowed to write in it.
    """
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"skipline-doctor-{user}" if user else "skipline-doctor"


def _shown(uri: str) -> str:
    return mask_credentials(uri)
