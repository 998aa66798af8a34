"""Calls to the tracking store that nobody waits for: made in order, and made again after an outage.

What a job has to tell is stored in its folder before it is put here, so it is the folder that survives the
command: the next one puts again what is not known to be delivered. Every call must therefore be one that may
be made twice.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

from pipeline.errors import JobError
from pipeline.reporter import Reporter

from .failures import OutageError

T = TypeVar("T")

log = logging.getLogger(__name__)

PATIENCE_S = 30 * 60.0
"""How long a step that needs the store waits for it; chosen: longer than a restart, shorter than a night."""

MAX_PAUSE_S = 30.0
"""Between two tries; the first pause is a second, each is twice the one before. Chosen."""

_GRACE_S = 1.0
"""Outages that a second try ends, such as a connection that was closed while idle, are not spoken of."""
_TICK_S = 0.2


class Outbox:
    """Makes calls in a thread of its own until its block ends.

    Args:
        reporter: Told once that the store is away, and once that it is back and has everything.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._calls: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._is_closed = threading.Event()
        self._is_away = False
        self._refusal: Exception | None = None
        self._thread = threading.Thread(target=self._deliver, name="tracking-outbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what is not delivered stays undelivered."""
        self._is_closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_TICK_S)  # a call that hangs must not hold the command

    def put(self, call: Callable[[], object]) -> None:
        """Have a call made after those before it; returns at once.

        Args:
            call: Raises OutageError where another try is worth while; whatever else it raises, `ask` raises.
        """
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def ask(self, call: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
        """Make a call in this thread, once all that was put is delivered, and return what it returns.

        Args:
            call: As for `put`.
            patience_s: How long the store may be away.

        Raises:
            JobError: If the store is away for longer, or refused what was put.
        """
        start_s = time.monotonic()
        deadline_s = start_s + patience_s

        def pause(pause_s: float) -> bool:
            """Wait, visibly; returns whether there is time for another try."""
            until_s = min(time.monotonic() + pause_s, deadline_s)
            while (now_s := time.monotonic()) < until_s:
                self._reporter.advance("waiting for the tracking store", now_s - start_s, patience_s)
                time.sleep(min(_TICK_S, until_s - now_s))
            return now_s < deadline_s

        while self._has_calls():
            if not pause(_TICK_S):
                raise _away_too_long(patience_s)
        self._raise_refusal()
        try:
            answer = _persist(call, pause, self._note_outage)
        except OutageError as error:
            raise _away_too_long(patience_s) from error
        self._note_delivery()
        return answer

    def _deliver(self) -> None:
        def pause(pause_s: float) -> bool:
            return not self._is_closed.wait(pause_s)

        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._is_closed.is_set())
            if self._is_closed.is_set():
                return
            try:
                _persist(self._calls[0], pause, self._note_outage)
            except OutageError:  # closed meanwhile
                return
            except Exception as error:  # an error of the registry must not end a training
                log.warning("the tracking store was not told", exc_info=True)
                self._refusal = self._refusal or error
            self._calls.popleft()
            if not self._calls:
                self._note_delivery()

    def _has_calls(self) -> bool:
        return bool(self._calls)

    def _raise_refusal(self) -> None:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _note_outage(self, error: OutageError, away_s: float) -> None:
        if self._is_away or away_s < _GRACE_S:
            return
        self._is_away = True
        log.warning("%s", error)
        self._reporter.say(
            f"the tracking store does not answer ({error.reason}): the job goes on; what it has to tell is "
            "kept and delivered later"
        )

    def _note_delivery(self) -> None:
        if self._is_away:
            self._is_away = False
            self._reporter.say("the tracking store answers again; everything was delivered")


def _persist(
    call: Callable[[], T],
    pause: Callable[[float], bool],
    note_outage: Callable[[OutageError, float], None],
) -> T:
    """Make a call until it is answered; its OutageError is raised once `pause` says that time is up."""
    start_s = time.monotonic()
    for pause_s in _pauses():
        try:
            return call()
        except OutageError as error:
            note_outage(error, time.monotonic() - start_s)
            if not pause(pause_s):
                raise
    raise AssertionError("pauses never end")


def _pauses() -> Iterator[float]:
    return (min(2.0**tries, MAX_PAUSE_S) for tries in itertools.count())


def _away_too_long(patience_s: float) -> JobError:
    return JobError(
        f"the tracking store must answer within {patience_s / 60:g} min, it did not; when it answers again, "
        "give the same command again: it delivers what is missing and trains nothing twice"
    )
