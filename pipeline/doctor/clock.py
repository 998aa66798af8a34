"""Compares clocks: S3 refuses requests that are signed 15 minutes too early or too late."""

import time
from email.utils import parsedate_to_datetime

from .findings import Doubt, NotNeededError, Problem

REFUSED_SKEW_S = 15 * 60
"""Source: Amazon S3, error code RequestTimeTooSkewed."""

WARNED_SKEW_S = 30
"""Chosen: an NTP client keeps well below, and metrics of two machines still come in their order."""


def judge_clock(date: str | None, *, start_s: float, end_s: float, whose: str) -> str:
    """Return by how much a server's clock differs from this machine's.

    Args:
        date: The Date header of an answer, in whole seconds.
        start_s: Unix time at which it was asked for.
        end_s: Unix time at which it came.
        whose: Clock it is.

    Raises:
        Problem: If S3 would refuse requests.
        Doubt: If one of the two clocks is wrong.
        NotNeededError: If the answer has no date.
    """
    if date is None:
        raise NotNeededError(f"{whose} sends no Date header")
    theirs_s = parsedate_to_datetime(date).timestamp()
    # Theirs is cut to a second, and was taken at some time between question and answer.
    skew_s = max(start_s - (theirs_s + 1), theirs_s - end_s, 0.0)
    return judge_skew(skew_s, whose=whose)


def judge_skew(skew_s: float, *, whose: str) -> str:
    """Return how far two clocks are apart, as `judge_clock` does.

    Args:
        skew_s: Between this machine's clock and another.
        whose: Clock it is.
    """
    seen = f"{skew_s:.0f} s between this machine's clock and that of {whose}"
    fix = "set both clocks by NTP, such as `timedatectl set-ntp true`"
    if skew_s >= REFUSED_SKEW_S:
        raise Problem(f"{seen}; S3 refuses requests from {REFUSED_SKEW_S} s on", fix)
    if skew_s >= WARNED_SKEW_S:
        raise Doubt(seen, fix)
    return seen


def now_s() -> float:
    """Return this machine's Unix time."""
    return time.time()
