"""What else validation images decided beside the accuracies that are counted on them.

There are no others to count on, so an accuracy is a little too good wherever they chose what it belongs to.
Shipped inside registered models.
"""

from collections.abc import Sequence
from typing import Literal

Choice = Literal["trial", "epoch", "average", "statistics"]
"""Which trial of a search, which epoch of a training, whether its moving average, which norm statistics."""

_WORDS: dict[Choice, str] = {
    "trial": "the trial",
    "epoch": "the epoch",
    "average": "the averaging of weights",
    "statistics": "the norm statistics",
}


def made_choices(*, trials: int, epochs: int, averages: bool, statistics: int) -> tuple[Choice, ...]:
    """Return what the validation images of a job chose.

    Args:
        trials: Of its search, 0 without one.
        epochs: Of its training, each of which they judge.
        averages: Whether they compare the weights with a moving average.
        statistics: How many kinds of norm statistics they compare, 1 where none were taken anew.
    """
    made: dict[Choice, bool] = {
        "trial": trials > 1,
        "epoch": epochs > 1,
        "average": averages,
        "statistics": statistics > 1,
    }
    return tuple(choice for choice, is_made in made.items() if is_made)


def describe_images(images: str, choices: Sequence[Choice] | None) -> str:
    """Return what accuracies are counted on, and what these images chose.

    Args:
        images: Such as "360 validation images".
        choices: What they chose; None where that is not recorded.
    """
    if choices is None:
        return f"{images} that may also have chosen the trial, the epoch and the norm statistics"
    if not choices:
        return f"{images} that chose nothing"
    *others, last = (_WORDS[choice] for choice in choices)
    return f"{images} that also chose {', '.join(others)}{' and ' if others else ''}{last}"
