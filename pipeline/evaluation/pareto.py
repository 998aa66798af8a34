"""Which points of a curve are worth having, and one number for a whole curve."""

from collections.abc import Sequence
from dataclasses import dataclass

REFERENCE_RELATIVE_COST = 1.25
"""Cost of the hypervolume's reference point, relative to the super-net. Chosen: above 1, or the super-net's
own accuracy would not count."""


@dataclass(frozen=True)
class Point:
    """A profile as a trade-off: `cost` in any unit above 0, `accuracy` in [0, 1]."""

    cost: float
    accuracy: float

    def dominates(self, other: "Point") -> bool:
        """Return whether this is at least as good in both and better in one."""
        return self != other and self.cost <= other.cost and self.accuracy >= other.accuracy


def pareto_front(points: Sequence[Point]) -> list[bool]:
    """Return for every point whether no other dominates it."""
    return [not any(other.dominates(point) for other in points) for point in points]


def hypervolume(points: Sequence[Point]) -> float:
    """Return the area that a curve dominates, as a share of the whole.

    The reference point is (cost `REFERENCE_RELATIVE_COST`, accuracy 0). The value is the mean accuracy that
    a caller gets whose budget is drawn evenly between 0 and that cost and who takes the best profile that
    fits (0 if none fits).

    Args:
        points: Costs relative to the super-net, so that `full` costs 1.

    Returns:
        A number in [0, 1].

    Source: Zitzler and Thiele 1998, the S metric, for two objectives.
    """
    area, best, previous = 0.0, 0.0, 0.0
    for point in sorted((p for p in points if p.cost < REFERENCE_RELATIVE_COST), key=lambda p: p.cost):
        area += best * (point.cost - previous)
        best, previous = max(best, point.accuracy), point.cost
    area += best * (REFERENCE_RELATIVE_COST - previous)
    return area / REFERENCE_RELATIVE_COST
