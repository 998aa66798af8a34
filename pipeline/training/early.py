"""When a checkpoint is written within an epoch: before a machine goes, and every so many minutes.

Ray tells the workers of a node that is drained, as the autoscaler does at a spot instance's notice, until
when it is there. All workers have to decide alike, so they ask together, every few seconds.
"""

import time

from ray import train
from ray.train.collective import broadcast_from_rank_zero

LOOK_INTERVAL_S = 3.0
"""Between two questions, each some milliseconds of waiting for one another; a notice comes half a minute or
more ahead. Chosen."""
NOTICE_INTERVAL_S = 20.0
"""Between two checkpoints once a notice is there, until the machine goes; chosen."""


class EarlyCheckpoints:
    """Says after which updates of an epoch a checkpoint is due.

    Args:
        every_s: At most this long after the last one, or None.
    """

    def __init__(self, every_s: float | None) -> None:
        self._every_s = every_s
        self._deadline_ms: float | None = None
        self._updates_to_look = 1
        self._updates = 0
        self._looked_s = self._written_s = time.monotonic()

    def written(self) -> None:
        """Say that a checkpoint was written, here or at the end of an epoch."""
        self._written_s = time.monotonic()

    def are_due(self) -> bool:
        """Return the same on all workers; to be called by all of them after every update."""
        self._updates += 1
        if self._updates < self._updates_to_look:
            return False
        notice = train.get_preemption_info()
        now_s = time.monotonic()
        pace = self._updates / max(now_s - self._looked_s, 1e-3)
        # Clocks of workers differ; rank 0's decides.
        is_due, self._updates_to_look = broadcast_from_rank_zero(
            (self._is_due(notice, now_s), max(1, round(pace * LOOK_INTERVAL_S)))
        )
        self._updates, self._looked_s = 0, now_s
        return bool(is_due)

    def _is_due(self, notice: train.PreemptionInfo | None, now_s: float) -> bool:
        waited_s = now_s - self._written_s
        if notice is None:
            return self._every_s is not None and waited_s >= self._every_s
        is_news, self._deadline_ms = notice.deadline_ms != self._deadline_ms, notice.deadline_ms
        return is_news or waited_s >= NOTICE_INTERVAL_S
