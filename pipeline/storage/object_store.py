"""S3 and stores that speak its protocol: making a client, reading a location, explaining a failure.

Credentials come from boto3's standard chain alone (environment, shared files, the role of a pod or machine).
No value here holds them and no message shows them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from pipeline.config import S3Config

SCHEME = "s3://"

MAX_ATTEMPTS = 10
"""Requests are made so often before they fail; chosen: at 20 % refused, one in ten million still fails."""

NUM_CONNECTIONS = 16
"""Transfers at the same time; chosen: fills 10 Gbit/s at S3's 85 MB/s a connection.

Source: "Performance design patterns for Amazon S3", horizontal scaling.
"""

_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_PATTERN_LETTERS = frozenset("*?[")
_BUSY = frozenset(
    ("SlowDown", "503", "ServiceUnavailable", "Throttling", "500", "InternalError", "502", "504")
)
_EXPIRED = frozenset(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"))

StoreError = (BotoCoreError, ClientError)
"""What boto3 raises."""

BrokenConnection = (botocore.exceptions.ConnectionError, HTTPClientError, IncompleteReadError)
"""Those of them that say nothing about the request: another try may go well."""


def make_client(
    s3: S3Config,
    *,
    max_attempts: int = MAX_ATTEMPTS,
    connect_timeout_s: float = _CONNECT_TIMEOUT_S,
    read_timeout_s: float = _READ_TIMEOUT_S,
) -> Any:  # noqa: ANN401 - boto3 makes the class of a client when it is asked for one
    """Return a client that repeats refused requests, with longer and longer pauses.

    The mode is boto3's `standard`. Its `adaptive` one slows all requests of a client down for each that is
    refused, and at a steady share of refusals never comes back to speed: where 5 % were refused, 300 objects
    from a server on the same machine took 26.4 s instead of 2.6 s (measured).

    A client may be used by many threads; it must not travel to another process.

    Args:
        s3: How to reach the store.
        max_attempts: How often a request is made before its error is raised.
        connect_timeout_s: The longest wait for a connection.
        read_timeout_s: The longest wait for the next bytes.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=NUM_CONNECTIONS,
        s3={"addressing_style": s3.addressing_style},
    )
    session = boto3.session.Session(region_name=s3.region)
    return session.client("s3", endpoint_url=s3.endpoint_url, config=config)


TIMEOUT_S = 10.0
"""A store that is not there has to be said within 15 s of the command, imports included."""


def make_hasty_client(s3: S3Config) -> Any:  # noqa: ANN401
    """Return a client for a check, which gives up after seconds."""
    return make_client(s3, max_attempts=3, connect_timeout_s=2, read_timeout_s=4)


def ask(check: Callable[[], list[str]], location: str, s3: S3Config) -> list[str]:
    """Return what a check says of a location, or that the store does not answer in time.

    Args:
        check: Returns problems, waiting as long as it takes.
        location: What it asks for.
        s3: How it reaches the store.
    """
    answer: list[list[str]] = []
    # A thread of its own, because looking a host up knows no time limit; it ends with the process.
    thread = threading.Thread(target=lambda: answer.append(check()), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if answer:
        return answer[0]
    store = s3.endpoint_url or "the S3 service"
    return [
        f"the object store must answer within {TIMEOUT_S:g} s, {store} did not for {location!r}; check "
        "s3.endpoint_url and the network"
    ]


@dataclass(frozen=True)
class S3Location:
    """A bucket and what is meant in it.

    Args:
        bucket: Name of the bucket.
        path: Key of one object, the beginning of many up to a `/`, or a pattern; without outer slashes.
    """

    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the location that `s3://BUCKET/PATH` names.

        Raises:
            ValueError: If it is not written so; the message shows no user name or password.
        """
        bucket, _, path = text.removeprefix(SCHEME).partition("/")
        if not text.startswith(SCHEME) or not bucket or "@" in bucket or ":" in bucket:
            shown = "s3://***" if "@" in text or ":" in bucket else repr(text)
            raise ValueError(
                f"an S3 location must be written s3://BUCKET/PREFIX, got {shown}; credentials come from the "
                "environment or ~/.aws, never from a location"
            )
        path = path.strip("/")
        if path and not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise ValueError(
                f"the prefix of an S3 location must have plain parts, got {text!r}; remove '//', '.' and '..'"
            )
        return cls(bucket, path)

    @property
    def is_pattern(self) -> bool:
        """Whether the last part stands for several objects."""
        return not _PATTERN_LETTERS.isdisjoint(PurePosixPath(self.path).name)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.path}".rstrip("/")


@dataclass(frozen=True, order=True, slots=True)
class StoredObject:
    """One object, as a listing describes it.

    Args:
        name: Its key below the prefix that was listed, such as `cat/1.jpg`.
        key: Its whole key.
        size_bytes: Its size.
        etag: Changes with its content; quoted, as the store writes it.
    """

    name: str
    key: str
    size_bytes: int
    etag: str


def is_s3(location: str) -> bool:
    """Return whether a location is one of an object store."""
    return location.startswith(SCHEME)


@dataclass(frozen=True)
class Access:
    """What somebody wants of a location.

    Attributes:
        adjective: What it has to be.
        rights: What the store has to grant for it.
    """

    adjective: str
    rights: str


READ = Access("readable", "s3:ListBucket on the bucket and s3:GetObject below the prefix")
WRITE = Access(
    "readable and writable",
    "s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload below the prefix",
)


def is_outage(error: Exception) -> bool:
    """Return whether a `StoreError` says nothing about the request, so that it may go well later."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in _BUSY
    return isinstance(error, BrokenConnection)


def explain_failure(error: Exception, location: object, s3: S3Config, access: Access = READ) -> str:
    """Return law, value seen and way out for an error of boto3.

    Args:
        error: A `StoreError`.
        location: What was asked for.
        s3: How the store was to be reached.
        access: What for.
    """
    store = s3.endpoint_url or "the S3 service"
    asked = repr(str(location))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return (
            f"credentials for {asked} must be found by the standard chain, it has none "
            f"({type(error).__name__}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
            f"run with a role for which it is {access.adjective}"
        )
    if isinstance(error, ClientError):
        return _explain_answer(error, asked, store, access)
    if isinstance(error, BrokenConnection):
        return (
            f"the object store must answer, {store} does not for {asked} ({type(error).__name__}); check "
            "s3.endpoint_url and the network"
        )
    return (
        f"{asked} must be {access.adjective}, {store} cannot be asked ({type(error).__name__}); check the s3 "
        "settings"
    )


def _explain_answer(error: ClientError, asked: str, store: str, access: Access) -> str:
    """Return the message for a request that the store has refused."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if code in ("NoSuchBucket", "404", "NotFound", "NoSuchKey"):
        return f"{asked} must exist, {store} has no such bucket or object ({code}); correct the location"
    if code in (
        "301",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ):
        return (
            f"the region must be that of the bucket, {store} refuses it for {asked} ({code}); set s3.region"
        )
    if code in ("PreconditionFailed", "412"):
        return f"{asked} must not change while it is read, it has ({code}); run the command again"
    if code in _BUSY:
        return (
            f"{store} must take requests, it still refuses {asked} after many tries ({code}); run again later"
        )
    if code in _EXPIRED:
        return (
            f"credentials must be valid as long as a job runs, those for {asked} have expired ({code}); "
            "renew them and give the same command again"
        )
    if code == "RequestTimeTooSkewed":
        return (
            f"this machine's clock must be that of {store}, it is too far off for {asked} ({code}); correct "
            "it, and give the same command again"
        )
    return (
        f"{asked} must be {access.adjective}, {store} refuses it ({code}); grant {access.rights} to the "
        "credentials that the environment gives"
    )
