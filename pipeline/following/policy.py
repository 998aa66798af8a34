"""Which depth the next batch runs at: a function of the queue, the load and measured costs.

No clock, no I/O: who calls it says what waits and for how long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluation.table import ProfileTable

from .costs import Costs

HEADROOM = 0.8
"""Share of the target that is planned with. Chosen: the rest is for the way through HTTP, and for batches
that take longer than planned."""

MAX_UTILISATION = 0.75
"""Share of the time that batches may take at a profile before a shallower one is chosen. Chosen: without it
the deepest would run until the queue is long, the shallowest until it is gone, and again; and requests that
come at random wait long for a model that is nearly always busy."""


@dataclass(frozen=True)
class Waiting:
    """A request in the queue.

    Attributes:
        num_images: Of the request; all run in one batch.
        age_ms: How long it has waited.
        profile: What it asks for; None leaves it to the policy.
    """

    num_images: int
    age_ms: float
    profile: str | None = None


@dataclass(frozen=True)
class Load:
    """What the policy decides from.

    Attributes:
        queue: The oldest first, one at least.
        images_per_s: That arrive at present, by what they ask for.
        pace: How many times longer than measured batches take at present.
        unread: Requests that have arrived and will queue once their images are decoded.
    """

    queue: Sequence[Waiting]
    images_per_s: Mapping[str | None, float]
    pace: float = 1.0
    unread: Sequence[Waiting] = ()


@dataclass(frozen=True)
class Batch:
    """What runs next: requests by their place in the queue, all at one profile."""

    profile: str
    places: tuple[int, ...]


class FollowingPolicy:
    """The deepest profile that keeps what waits within the target.

    A profile is fit for the moment if the queue, served by it from now on, has every request answered within
    the target, and if what arrives keeps it busy for less than all of the time. Where none is fit, the
    shallowest runs. A longer queue never makes another profile fit, so it never gets a deeper one.

    Args:
        profiles: To choose from, the most accurate first.
        costs: Of batches.
        target_ms: Time from arrival to answer that 95 of 100 requests are to keep.
    """

    def __init__(self, profiles: Sequence[str], costs: Costs, target_ms: float) -> None:
        self.profiles = tuple(profiles)
        self._costs = costs
        self._planned_ms = HEADROOM * target_ms
        # Whoever arrives just after a batch has begun waits for it, and then for its own.
        limit_ms = self._planned_ms / 2
        self._batch_images = {profile: costs.best_batch(profile, limit_ms) for profile in costs.macs}

    def next_batch(self, load: Load) -> Batch:
        """Return what runs next: the oldest request, and those after it that fit in its batch."""
        profile = load.queue[0].profile or self.deepest(load)
        return Batch(profile, self._first_places(load.queue, profile))

    def deepest(self, load: Load) -> str:
        """Return the profile for requests that leave it to the policy."""
        for profile in self.profiles[:-1]:
            if self._utilisation(load, profile) <= MAX_UTILISATION and self._in_time(load, profile):
                return profile
        return self.profiles[-1]

    def _utilisation(self, load: Load, profile: str) -> float:
        """Return the share of the time that batches take, where what asks for nothing runs at a profile."""
        busy_ms = sum(rate * self._image_ms(asked or profile) for asked, rate in load.images_per_s.items())
        return busy_ms * load.pace / 1000

    def _image_ms(self, profile: str) -> float:
        num_images = self._batch_images[profile]
        return self._costs.batch_ms(profile, num_images) / num_images

    def _in_time(self, load: Load, profile: str) -> bool:
        """Return whether what waits is answered in time where what asks for nothing runs at a profile."""
        rest, elapsed_ms = [*load.queue, *load.unread], 0.0
        while rest:
            places = self._first_places(rest, profile)
            batch = [rest[place] for place in places]
            num_images = sum(waiting.num_images for waiting in batch)
            elapsed_ms += load.pace * self._costs.batch_ms(batch[0].profile or profile, num_images)
            if elapsed_ms + max(waiting.age_ms for waiting in batch) > self._planned_ms:
                return False
            rest = [waiting for place, waiting in enumerate(rest) if place not in places]
        return True

    def _first_places(self, queue: Sequence[Waiting], profile: str) -> tuple[int, ...]:
        """Return the places of the oldest request and of later ones that ask for the same, while they fit."""
        asked = queue[0].profile
        room = self._batch_images[asked or profile] - queue[0].num_images
        places = [0]
        for place, waiting in enumerate(queue[1:], start=1):
            if room <= 0:
                break
            if waiting.profile == asked:
                if waiting.num_images > room:
                    break
                room -= waiting.num_images
                places.append(place)
        return tuple(places)


def worth_choosing(table: ProfileTable, costs: Costs) -> list[str]:
    """Return the profiles of the Pareto front, the most accurate first, each quicker here than the former."""
    chosen: list[str] = []
    for profile in pareto_profiles(table):
        if not chosen or costs.batch_ms(profile, 1) < costs.batch_ms(chosen[-1], 1):
            chosen.append(profile)
    return chosen


def pareto_profiles(table: ProfileTable) -> list[str]:
    """Return the profiles that none dominates by multiply-adds, the most accurate first."""
    front = [row for row in table.results if row.is_pareto]
    return [row.profile for row in sorted(front, key=lambda row: (-row.top1, row.macs))]
