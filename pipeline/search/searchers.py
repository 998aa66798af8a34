"""Ray Tune's way to the designs: which trial starts next, and how many run at the same time."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from pipeline.training.epochs import SCORE

from .halving import Halving
from .record import TrialRecord
from .study import Study


class RoomySearcher(Searcher):  # type: ignore[misc]
    """Hands out as many trials as there is room for, which grows with nodes that join.

    Ray stores a searcher by pickle. Nobody reads that one, so it is empty.

    Args:
        room: Says how many trials may run at the same time now.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._room = room
        self._running: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, ()

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401
        """Return a trial's configuration, its number and its design; None if one has to be waited for."""
        if self._running and len(self._running) >= self._room():
            return None
        config = self._next_config()
        if isinstance(config, dict):
            self._running.add(trial_id)
        return config

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,  # noqa: ARG002
        error: bool = False,  # noqa: ARG002
    ) -> None:
        """Hear that a trial has no process any more; what it reached is in its record."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: what there is to know is in records."""

    @abstractmethod
    def _next_config(self) -> dict[str, Any] | str | None:
        """Return the next configuration, FINISHED, or None as long as it is not known."""


class StudySearcher(RoomySearcher):
    """Ray Tune's way to a study: hands out designs that have not ended, then new ones.

    Args:
        room: As for any.
        study: Which designs there are.
        trials: How many there shall be.
        records: Of all trials by number, as they are now.
        halving: Says which trials wait, and which of these go on; None if none waits.
        gives_up: Asked before every design, whether there shall be no more.
    """

    def __init__(
        self,
        study: Study,
        *,
        room: Callable[[], int],
        trials: int,
        records: Mapping[int, TrialRecord],
        halving: Halving | None,
        gives_up: Callable[[], bool],
    ) -> None:
        super().__init__(room)
        self._study = study
        self._records = records
        self._halving = halving
        self._gives_up = gives_up
        self._designs = study.drawn()
        self._new = [number for number in range(trials) if number not in self._designs]
        # A record may say that a trial is over before the study does.
        self._cut_off = [number for number in sorted(self._designs) if self._was_running(number)]

    def _next_config(self) -> dict[str, Any] | str | None:
        if self._gives_up():
            return str(Searcher.FINISHED)
        number = self._next()
        if number is None:
            # What runs may make place for a trial that waits.
            return None if self._halving and self._running else str(Searcher.FINISHED)
        if number not in self._designs:
            self._study.reconcile(self._records.values())
            self._designs[number] = self._study.draw(number, self._records.values())
        return {"number": number, "values": dict(self._designs[number])}

    def _next(self) -> int | None:
        if self._cut_off:
            return self._cut_off.pop(0)
        resumed = self._halving.resume() if self._halving else None
        if resumed is not None:
            return resumed
        if self._new:
            return self._new.pop(0)
        return self._halving.resume_leader() if self._halving and not self._running else None

    def _was_running(self, number: int) -> bool:
        record = self._records.get(number)
        if record is None:
            return True
        return record.outcome is None and not (self._halving and self._halving.waits(number))


class ListSearcher(RoomySearcher):
    """Ray Tune's way to configurations that are known."""

    def __init__(self, configs: Sequence[dict[str, Any]], *, room: Callable[[], int]) -> None:
        super().__init__(room)
        self._configs = list(configs)

    def _next_config(self) -> dict[str, Any] | str | None:
        return self._configs.pop(0) if self._configs else str(Searcher.FINISHED)
