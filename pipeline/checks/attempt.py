"""Tries something of timm's or torch's, and says in one line why it fails."""

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.data.random_state import kept_random_state, seed_transforms

MAX_LINE = 200
"""Characters of a foreign error that a message repeats; chosen."""

log = logging.getLogger(__name__)


def failure(act: Callable[[], object]) -> Exception | None:
    """Return what an action raises, None if it works.

    What it draws at random is the same every time, and random states stay as they were. Warnings are left to
    the training.
    """
    with warnings.catch_warnings(), kept_random_state():
        warnings.simplefilter("ignore")
        seed_transforms(0)
        try:
            act()
        except Exception as error:
            log.info("tried before the job starts", exc_info=True)
            return error
    return None


def in_a_line(error: Exception) -> str:
    """Return the first line of the error that an error comes from, and its type unless that is ValueError."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    line = next(iter(str(root).strip().splitlines()), "")[:MAX_LINE]
    return line if line and type(root) is ValueError else f"{type(root).__name__}: {line}".rstrip(": ")


def blamed(
    kwargs: Mapping[str, Any], error: Exception, attempt: Callable[[Mapping[str, Any]], Exception | None]
) -> dict[str, Exception]:
    """Return which of some arguments make an attempt fail, each with what it raises.

    Args:
        kwargs: Arguments with which the attempt fails.
        error: What it raises with all of them.
        attempt: Returns what it raises with the given ones of them.

    Returns:
        Errors by `NAME: VALUE`; empty if the attempt fails without arguments, too.
    """
    if not kwargs or attempt({}) is not None:
        return {}
    if len(kwargs) == 1:
        return {_text(kwargs): error}
    for key, value in kwargs.items():
        if attempt({name: other for name, other in kwargs.items() if name != key}) is None:
            return {_text({key: value}): error}
    tried = {_text({key: value}): attempt({key: value}) for key, value in kwargs.items()}
    alone = {text: why for text, why in tried.items() if why is not None}
    return alone or {_text(kwargs): error}


def _text(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value!r}" for key, value in kwargs.items())
