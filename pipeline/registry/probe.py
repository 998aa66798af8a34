"""Whether a tracking server answers at all, asked before or while the slow imports go on.

Importing MLflow and torch takes seconds; nothing here does.
"""

import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import RequestError

from .masking import mask_credentials

TIMEOUT_S = 8.0
"""A server that is not there has to be said within 15 s of the command, imports included."""


def require_answer(uri: str) -> None:
    """Raise RequestError if nobody answers at the address of a server; any answer will do.

    Args:
        uri: A tracking URI; nothing is asked where it is no server's.
    """
    ask_ahead(uri)()


def named_uri(job: Mapping[str, Any]) -> str:
    """Return where a job that nobody has checked yet seems to be registered; empty for the embedded store."""
    registry = job.get("registry")
    named = registry.get("tracking_uri") if isinstance(registry, dict) else None
    return str(named or os.environ.get("MLFLOW_TRACKING_URI", ""))


def ask_ahead(uri: str) -> Callable[[], None]:
    """Start to ask; returns what waits for the answer and raises RequestError if there is none."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return lambda: None
    answer: Future[str | None] = Future()
    # A thread of its own also because looking a host up knows no time limit; it ends with the process.
    threading.Thread(target=lambda: answer.set_result(_silence(uri)), name="probe", daemon=True).start()

    def wait() -> None:
        try:
            reason = answer.result(TIMEOUT_S)
        except TimeoutError:
            reason = f"no answer within {TIMEOUT_S:g} s"
        if reason is not None:
            raise refusal(uri, reason)

    return wait


def refusal(uri: str, reason: str) -> RequestError:
    """Return the error for a store that does not answer, without the credentials of its URI."""
    way_out = (
        "see that the folder can be written to, or give another tracking URI or storage folder"
        if uri.startswith("sqlite")
        else "start the server or correct the tracking URI (a server takes its credentials from "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or leave it out for the embedded store"
    )
    return RequestError(
        f"the tracking store must answer before a job starts, {mask_credentials(uri)} did not "
        f"({reason}); {way_out}"
    )


def _silence(uri: str) -> str | None:
    """Return why there is no answer; None if there is one, or what is wrong is for MLflow to judge."""
    parts = urlsplit(uri)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        urllib.request.urlopen(f"{bare.rstrip('/')}/health", timeout=TIMEOUT_S).close()
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, TimeoutError):
            return f"no answer within {TIMEOUT_S:g} s"
        is_silence = isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError)
        return f"{type(reason).__name__}: {reason}" if is_silence else None
    except (OSError, HTTPException, ValueError):
        pass
    return None
