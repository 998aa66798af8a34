"""Connects to MLflow: the embedded store, a tracking server, or a tracking database.

The first step of a job. Whatever is wrong with the store is found here, before anything starts.
"""

import fcntl
import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import Job, S3Config
from pipeline.environment import variables
from pipeline.errors import RequestError
from pipeline.storage import StoragePath

from .failures import brief
from .probe import TIMEOUT_S, refusal
from .tags import EXPERIMENT_KIND

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_FAILURES = (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, OSError)


def embedded_uri(storage: Path) -> str:
    """Return the tracking URI of the embedded store: an absolute SQLite URI below `storage`."""
    return f"sqlite:///{storage.expanduser().absolute() / 'mlflow.db'}"


def tracking_uri(job: Job) -> str:
    """Return where a job is registered: as its file says, else as MLFLOW_TRACKING_URI, else embedded."""
    return (
        job.registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(Path(job.storage))
    )


def default_artifact_root(uri: str, *, storage: StoragePath) -> StoragePath | None:
    """Return where artifacts go when a database is addressed directly, None where a server decides.

    Without it MLflow would write below the current directory.
    """
    return storage / "mlflow-artifacts" if _scheme(uri) in _DATABASES else None


def reach_artifacts(s3: S3Config) -> None:
    """Tell this process's MLflow how the job's object store is reached, where the environment does not."""
    for name, value in (
        ("MLFLOW_S3_ENDPOINT_URL", s3.endpoint_url),
        ("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", s3.addressing_style),
        ("AWS_DEFAULT_REGION", s3.region),
    ):
        if value is not None:
            os.environ.setdefault(name, value)


def leave_retries_to_us() -> None:
    """Let MLflow say at once that a server does not answer; the `Outbox` makes its calls again.

    MLflow's own 7 retries block for four minutes (measured), and one of a request that was carried out and
    not answered would make a second run.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def connect(uri: str, *, timeout_s: float = TIMEOUT_S) -> MlflowClient:
    """Return a client of the store, which is created if it is a SQLite file that does not exist.

    Eight processes that open a fresh SQLite file at once destroy it (measured, MLflow 3.17); the schema is
    therefore made under a file lock. Write-ahead logging is switched on: writers then wait a tenth as long
    (measured).

    Args:
        uri: Any URI that MLflow takes; see `tracking_uri`.
        timeout_s: How long a server may take to answer.

    Raises:
        RequestError: If the store cannot be reached or used.
    """
    _quieten()
    if _scheme(uri) == "sqlite":
        with _refusals(uri):
            _create_sqlite(uri)
    return connect_existing(uri, timeout_s=timeout_s)


def connect_existing(tracking_uri: str, *, timeout_s: float = TIMEOUT_S) -> MlflowClient:
    """Return a client of a store that exists; nothing is created.

    Args:
        tracking_uri: Any URI that MLflow takes.
        timeout_s: How long a server may take to answer.

    Raises:
        RequestError: If there is no such store, or it cannot be reached or used.
    """
    _quieten()
    if _scheme(tracking_uri) == "sqlite" and not _sqlite_path(tracking_uri).is_file():
        raise RequestError(
            f"a SQLite store must exist to be read, there is no file {_sqlite_path(tracking_uri)}; "
            "correct the tracking URI or the storage folder"
        )
    with _refusals(tracking_uri):
        _call_within(lambda: _reach(tracking_uri), timeout_s, uri=tracking_uri)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        if _scheme(tracking_uri) in _DATABASES:
            client.search_experiments(max_results=1)
    return client


def ensure_experiment(client: MlflowClient, name: str, *, artifact_root: StoragePath | None) -> str:
    """Return the id of the experiment with a name, created if there is none.

    Args:
        client: The store.
        name: Experiment's name.
        artifact_root: Where a new experiment keeps its files; None lets the server decide.

    Raises:
        RequestError: If the experiment was deleted: restoring it is for its owner to decide.
    """
    with _refusals(client.tracking_uri):
        found = client.get_experiment_by_name(name) or _create_experiment(client, name, artifact_root)
    if found.lifecycle_stage != "active":
        raise RequestError(
            f"an experiment must not be deleted to hold runs, {name!r} (id {found.experiment_id}) is; "
            "choose another name, or restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return str(found.experiment_id)


@contextmanager
def hasty(timeout_s: float) -> Iterator[None]:
    """Let MLflow's requests fail after a time, with one more try, until the block ends."""
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, int(timeout_s))),
    }
    with variables(limits):
        yield


@contextmanager
def current_store(client: MlflowClient) -> Iterator[None]:
    """Make a client's store MLflow's process-wide one for a moment.

    Needed where MLflow looks up a logged model without being told in which store. Not for several threads.
    """
    previous = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    with variables({"MLFLOW_TRACKING_URI": client.tracking_uri}):
        mlflow.set_tracking_uri(client.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous)


def _create_experiment(client: MlflowClient, name: str, artifact_root: StoragePath | None) -> Any:  # noqa: ANN401
    location = None if artifact_root is None else artifact_root.uri
    try:
        # MLflow's pages then show what belongs to trainings, not to language models.
        client.create_experiment(
            name, artifact_location=location, tags={EXPERIMENT_KIND: "custom_model_development"}
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def _create_sqlite(uri: str) -> None:
    path = _sqlite_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            _migrate_aside(path)
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode=WAL")


def _migrate_aside(path: Path) -> None:
    """Make the schema in another folder and move the finished file.

    MLflow's migrations are many transactions: a process killed between two leaves a file that no later one
    can open.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-store-") as folder:
        new = Path(folder) / path.name
        _migrate(new)
        new.replace(path)


def _migrate(path: Path) -> None:
    uri = f"sqlite:///{path}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _reach(uri: str) -> None:
    """Make the cheapest call that shows whether a store answers.

    MLflow's client of a database that is away or refuses the password tries to connect for a minute and more.
    """
    if _scheme(uri) not in _DATABASES:
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
        return
    with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect():
        pass


def _call_within(call: Callable[[], object], timeout_s: float, *, uri: str) -> None:
    """Make a call and give up on it after a time, whatever it hangs in.

    The thread is a daemon, so that an abandoned call does not keep the process from ending. MLflow's own
    limits would let a dead server block for four minutes (measured).
    """
    outcome: Future[object] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 (raised again by the caller, from the future)
            outcome.set_exception(error)

    with hasty(timeout_s):
        threading.Thread(target=run, name="tracking-preflight", daemon=True).start()
        try:
            outcome.result(timeout_s)
        except TimeoutError:
            raise refusal(uri, f"no answer within {timeout_s:g} s") from None


@contextmanager
def _refusals(uri: str) -> Iterator[None]:
    """Report whatever a store raises as a RequestError, without the original, which may quote credentials."""
    try:
        yield
    except _FAILURES as error:
        message = brief(error)
    else:
        return
    raise refusal(uri, message)


def _quieten() -> None:
    """Leave MLflow its warnings and take its chatter.

    The line with the run's address is one of security: it prints the server's URI, credentials included.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def _scheme(uri: str) -> str:
    """Return what a URI starts with, without the driver: `postgresql+psycopg://...` gives `postgresql`."""
    return uri.partition(":")[0].partition("+")[0]


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other store."""
    return _sqlite_path(uri) if _scheme(uri) == "sqlite" else None


def _sqlite_path(uri: str) -> Path:
    return Path(sqlalchemy.make_url(uri).database or "").absolute()
