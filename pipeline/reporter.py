"""How a job speaks to whoever started it."""

from typing import Protocol


class Reporter(Protocol):
    """Who tells the user how a job goes."""

    def say(self, text: str) -> None:
        """Tell a fact, once."""

    def advance(self, what: str, done: float, total: float) -> None:
        """Tell how far something long is."""


class Silent:
    """A reporter for what the user has been told already."""

    def say(self, text: str) -> None:
        """Tell nobody."""

    def advance(self, what: str, done: float, total: float) -> None:
        """Tell nobody."""
