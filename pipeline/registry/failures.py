"""Turns MLflow's errors into ours, in one line and without credentials.

MLflow's HTTP errors quote the whole tracking URI. The original is therefore left out of the chain on
purpose: its traceback would show what the message hides.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from pipeline.errors import JobError

from .masking import mask_credentials

_MAX_LENGTH = 400
_FAILURES = (
    MlflowException,
    requests.RequestException,
    SQLAlchemyError,
    Boto3Error,
    BotoCoreError,
    ClientError,
)
_OUTAGES = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.RetryError,  # MLflow's for an answer of 408, 429 or 5xx
    OperationalError,
    InterfaceError,
    BotoCoreError,
)
_TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))


class OutageError(JobError):
    """The store does not answer now; the same call may go well later.

    Args:
        action: What was being done.
        reason: What was heard instead of an answer.
    """

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(action, reason)
        self.reason = reason

    def __str__(self) -> str:
        return _explain(*self.args)


def brief(error: BaseException) -> str:
    """Return what an error says, on one line of at most 400 characters (chosen), credentials masked.

    Of an error that the operating system caused only that is told: `Connection refused`, not MLflow's
    account of it.
    """
    root = failure_chain(error)[-1]
    error = root if isinstance(root, OSError) else error
    text = " ".join(mask_credentials(str(error)).split()) or "no message"
    text = text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."
    return f"{type(error).__name__}: {text}"


@contextmanager
def tracking_failures(action: str) -> Iterator[None]:
    """Report whatever MLflow and its stores raise inside as a JobError; also works as a decorator.

    Args:
        action: What was being done, for the message.

    Raises:
        OutageError: If the store does not answer.
        JobError: If it refuses.
    """
    try:
        yield
    except _FAILURES as error:
        reason, is_outage = brief(error), _is_outage(error)
    else:
        return
    raise OutageError(action, reason) if is_outage else JobError(_explain(action, reason))


def _explain(action: str, reason: str) -> str:
    return (
        f"the tracking store must answer, it failed to {action} ({reason}); "
        "when it answers again, give the same command again: finished work is kept"
    )


def _is_outage(error: BaseException) -> bool:
    return any(_tells_of_an_outage(link) for link in failure_chain(error))


def _tells_of_an_outage(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError):  # what an upload through the server is refused with
        return error.response is not None and error.response.status_code in _TRANSIENT_STATUS
    if isinstance(error, ClientError):
        return error.response["ResponseMetadata"].get("HTTPStatusCode") in _TRANSIENT_STATUS
    if isinstance(error, MlflowException):
        return bool(error.error_code == "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, _OUTAGES)


def failure_chain(error: BaseException) -> list[BaseException]:
    """Return an error, what caused it, what caused that, and so on."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    return chain
