"""What a server that follows the load has answered: how many, at which depths, how accurate, how fast."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.evaluation.table import ProfileTable

from .costs import percentile

LAST_S = 60.0
"""What counts as the last minute."""


@dataclass(frozen=True)
class Mix:
    """Images by the depth that answered them.

    Attributes:
        images: By profile, most images first.
        mean_depth: Mean share of skippable stages that ran whole: 1 is all `full`, 0 is all `base`; None
            without images.
        expected_accuracy: Mean top-1 of their profiles on the validation images, in [0, 1]; None without
            images.
    """

    images: dict[str, int]
    mean_depth: float | None
    expected_accuracy: float | None

    @classmethod
    def of(cls, images: Mapping[str, int], top1: Mapping[str, float]) -> "Mix":
        """Return the mix of images counted by profile.

        Args:
            images: By profile.
            top1: By profile.
        """
        counted = dict(sorted(images.items(), key=lambda item: -item[1]))
        total = sum(counted.values())
        if not total:
            return cls({}, None, None)
        depth = sum(number * profile.count("F") / len(profile) for profile, number in counted.items())
        accuracy = sum(number * top1[profile] for profile, number in counted.items())
        return cls(counted, depth / total, accuracy / total)


@dataclass(frozen=True)
class Report:
    """The state of a server.

    Attributes:
        target_p95_ms: What it keeps to.
        requests: Answered since its start.
        refused: Wrong requests since its start, answered with code 400 or 415.
        errors: Requests since its start that failed for another reason.
        within_target: Share of the answered requests that took no longer than the target; None of none.
        queue_length: Requests that wait at present.
        since_start: Depths of all answers.
        last_minute: Depths of the answers of the last minute.
        p50_ms: Time in the server, from arrival to answer, in the last minute; None of no requests.
        p95_ms: Its 95th percentile.
        validation_images: How many images the accuracies were counted on.
        counted_on: Which images these are, as text.
    """

    target_p95_ms: float
    requests: int
    refused: int
    errors: int
    within_target: float | None
    queue_length: int
    since_start: Mix
    last_minute: Mix
    p50_ms: float | None
    p95_ms: float | None
    validation_images: int
    counted_on: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        return asdict(self)


@dataclass(frozen=True)
class _Answer:
    time_s: float
    profile: str
    num_images: int
    latency_ms: float


class Record:
    """Counts what is answered.

    Args:
        table: Gives the accuracies.
        target_ms: What the 95th percentile is to keep.
    """

    def __init__(self, table: ProfileTable, target_ms: float) -> None:
        self._top1 = {row.profile: row.top1 for row in table.results}
        self._table = table
        self._target_ms = target_ms
        self._images: Counter[str] = Counter()
        self._requests = self._within = 0
        self._recent: deque[_Answer] = deque()
        self.refused = self.errors = 0

    def add(self, time_s: float, profile: str, num_images: int, latency_ms: float) -> None:
        """Count one answered request."""
        self._requests += 1
        self._within += latency_ms <= self._target_ms
        self._images[profile] += num_images
        self._recent.append(_Answer(time_s, profile, num_images, latency_ms))
        self._forget(time_s)

    def report(self, time_s: float, queue_length: int) -> Report:
        """Return what was counted until a time, on the clock of `add`."""
        self._forget(time_s)
        recent: Counter[str] = Counter()
        for answer in self._recent:
            recent[answer.profile] += answer.num_images
        latencies_ms = [answer.latency_ms for answer in self._recent]
        return Report(
            target_p95_ms=self._target_ms,
            requests=self._requests,
            refused=self.refused,
            errors=self.errors,
            within_target=self._within / self._requests if self._requests else None,
            queue_length=queue_length,
            since_start=Mix.of(self._images, self._top1),
            last_minute=Mix.of(recent, self._top1),
            p50_ms=percentile(latencies_ms, 50) if latencies_ms else None,
            p95_ms=percentile(latencies_ms, 95) if latencies_ms else None,
            validation_images=self._table.num_images,
            counted_on=self._table.images,
        )

    def _forget(self, time_s: float) -> None:
        while self._recent and self._recent[0].time_s < time_s - LAST_S:
            self._recent.popleft()
