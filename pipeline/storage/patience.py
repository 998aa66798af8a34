"""Waiting for an object store that is away, in the middle of a job."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from .object_store import StoreError, is_outage

T = TypeVar("T")

PATIENCE_S = 600.0
"""How long a store may be away before what is asked of it fails; chosen: longer than a restart, and no
machine waits for nothing all night."""

_PAUSE_S = 3.0  # chosen; boto3 has tried for a while before

_log = logging.getLogger(__name__)


def persist(call: Callable[[], T], store: str) -> T:
    """Return what a call of boto3 returns, made again while its store is away.

    Args:
        call: May be made several times.
        store: Name of the store in messages.

    Raises:
        StoreError: If the store refuses the call, or was away for `PATIENCE_S`.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except StoreError as err:
            if not is_outage(err) or time.monotonic() > deadline_s:
                raise
            _log.warning("%s is away (%s); it is asked again", store, err)
        time.sleep(_PAUSE_S)
