"""What a team runs in production, each a real process on loopback: PostgreSQL, an S3 API, `mlflow server`."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3

START_S = 180
POSTGRES_USER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def why_no_postgres() -> str | None:
    """Return why PostgreSQL cannot be started here, None if it can."""
    missing = [name for name in ("initdb", "pg_ctl", "psql") if shutil.which(name) is None]
    return f"PostgreSQL is not installed: no {', '.join(missing)} on PATH" if missing else None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server with a password of its own; yields its SQLAlchemy URI without a database."""
    folder, password, port = Path(tempfile.mkdtemp(prefix="pg-")), secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, POSTGRES_USER)
    data = folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    try:
        _as_user("initdb", "-D", data, "-A", "scram-sha-256", "-U", "mlflow", f"--pwfile={folder}/password")
        _as_user("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://mlflow:{password}@127.0.0.1:{port}"
        finally:
            _as_user("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def create_database(server: str, name: str) -> str:
    """Create a database; returns its SQLAlchemy URI."""
    plain = server.replace("+psycopg", "")
    command = ["psql", "--quiet", f"{plain}/postgres", "-c", f"create database {name}"]
    subprocess.run(command, check=True, timeout=60)
    return f"{server}/{name}"


@contextmanager
def running_s3(bucket: str) -> Iterator[str]:
    """Run an S3 API with an empty bucket in a process of its own; yields its address."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.s3_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            s3_client(url).create_bucket(Bucket=bucket)
            yield url
        finally:
            process.kill()


def s3_client(url: str):
    """Return a client of that API."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="very-secret",
    )


@dataclass
class TrackingServer:
    """An `mlflow server` that can be killed and started again on the same address.

    Attributes:
        environment: Of the server alone; clients need none of it.
        options: Of its command line, beside host, port and workers.
        log: File that it writes to.
        port: On which it listens.
    """

    environment: Mapping[str, str]
    log: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=lambda: free_port())
    _process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Its tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--allowed-hosts", f"127.0.0.1:{self.port}", *self.options),
        ]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"mlflow server does not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it and its workers, as a power cut does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def server_environment(database: str, s3: str) -> dict[str, str]:
    """Return what an `mlflow server` is told; the store's credentials are known to it alone."""
    return {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _as_user(*command: object) -> None:
    prefix = ["runuser", "-u", POSTGRES_USER, "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, timeout=120, cwd="/", stdout=subprocess.DEVNULL)
