"""How a job speaks to whoever started it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.search.sweep import SweepStatus


class Reporter(Protocol):
    """Who tells the user how a job goes."""

    def say(self, text: str) -> None:
        """Tell a fact, once."""

    def advance(self, what: str, done: float, total: float, note: str = "") -> None:
        """Tell how far something long is, and what is known of it so far."""

    def showing(self, look: "Callable[[], SweepStatus]") -> AbstractContextManager[None]:
        """Show where a sweep is, if this shows anything, until the block ends; `look` says it at any time."""


class Silent:
    """A reporter for what the user has been told already, or does not want to be told."""

    def say(self, text: str) -> None:
        """Tell nobody."""

    def advance(self, what: str, done: float, total: float, note: str = "") -> None:
        """Tell nobody."""

    def showing(self, look: "Callable[[], SweepStatus]") -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nobody."""
        return nullcontext()
