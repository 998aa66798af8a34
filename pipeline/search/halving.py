"""Asynchronous successive halving: of the trials that come to a rung, the better half goes on.

A trial that may not go on yet waits, without processes and with its checkpoint, until a place is free or can
no longer become free for it. Everything follows from the epochs that trials reported, so a search that was
killed decides as it would have done.

Source: Li et al. 2020, arXiv:1810.05934, algorithm 2 (ASHA). There, whoever is among the better half so far
goes on, so a search that improves from trial to trial stops hardly any. Here places are counted: of n trials
at a rung n / 2 go on in all, which bounds the epochs of a search. In the end who leads at a rung goes on too.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from pipeline.training.epochs import History

from .record import TrialRecord, history_from_json
from .score import score_so_far
from .trial import FAILURE, HISTORY

REDUCTION_FACTOR = 2
"""The better half goes on at epochs 1, 2, 4 and so on; chosen for searches of about ten trials."""


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which only the better half goes on, of trials with so many epochs."""
    powers = (REDUCTION_FACTOR**number for number in itertools.count())
    return tuple(itertools.takewhile(lambda rung: rung < epochs, powers))


class Halving:
    """Which trials go beyond which rung.

    Args:
        trials: How many there will be.
        epochs: Of a trial that is never stopped.
        exempt: Numbers of trials that always go on and take no place.
    """

    def __init__(self, *, trials: int, epochs: int, exempt: Iterable[int] = ()) -> None:
        self.rungs = rungs_of(epochs)
        self._exempt = frozenset(exempt)
        self._num_trials = trials - len(self._exempt)
        self._scores: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}
        self._passed: dict[int, set[int]] = {rung: set() for rung in self.rungs}
        self._failed: set[int] = set()
        self._ended: set[int] = set()

    def learn(self, record: TrialRecord) -> None:
        """Take in what a trial of an earlier command reached."""
        self._take_in(record.number, record.history)
        if record.outcome is not None:
            self.end(record.number, has_failed=record.outcome == "failed")

    def report(self, number: int, history: History) -> bool:
        """Take in the epochs of a running trial; returns whether it goes on at once."""
        self._take_in(number, history)
        rung = len(history)
        if rung not in self.rungs or number in self._exempt or number in self._passed[rung]:
            return True
        if self._next_at(rung) != number:
            return False
        self._passed[rung].add(number)
        return True

    def end(self, number: int, *, has_failed: bool) -> None:
        """Say that a trial is over; of one that failed, what it reached counts no more."""
        self._ended.add(number)
        if has_failed:
            self._failed.add(number)

    def resume(self) -> int | None:
        """Return which waiting trial goes on now, of several the one that came furthest; None if none may."""
        for rung in reversed(self.rungs):
            number = self._next_at(rung)
            if number is not None:
                self._passed[rung].add(number)
                return number
        return None

    def resume_leader(self) -> int | None:
        """Return a waiting trial that goes on though no place is free; to be asked when nothing else is left.

        It was better at its rung than all that passed it: places had gone before it came. The lowest rung is
        looked at first, since its leader may come to lead above.
        """
        for rung in self.rungs:
            leader = self._leader_at(rung)
            if leader is not None:
                self._passed[rung].add(leader)
                return leader
        return None

    def waits(self, number: int) -> bool:
        """Return whether a trial stands at a rung that it has not passed."""
        if number in self._ended:
            return False
        return any(number in self._scores[rung] and number not in self._passed[rung] for rung in self.rungs)

    def may_go_on(self, number: int) -> bool:
        """Return whether a trial that waits can still get a place or lead, whatever others will reach."""
        return self.waits(number) and number not in self.hopeless()

    def hopeless(self) -> set[int]:
        """Return the trials that wait and can neither get a place any more nor lead."""
        found: set[int] = set()
        for index, rung in enumerate(self.rungs):
            places = self._most_at(index) // REDUCTION_FACTOR - len(self._passed[rung])
            found.update(self._waiting_at(rung)[max(0, places) :])
            found.discard(self._leader_at(rung))
        return found

    def _take_in(self, number: int, history: History) -> None:
        if number in self._exempt:
            return
        for rung in self.rungs:
            if len(history) >= rung:
                self._scores[rung].setdefault(number, score_so_far(history[:rung]))
            if len(history) > rung:
                self._passed[rung].add(number)

    def _waiting_at(self, rung: int) -> list[int]:
        """Return who stands at a rung, the best first."""
        gone = self._passed[rung] | self._ended
        waiting = [number for number in self._scores[rung] if number not in gone]
        return sorted(waiting, key=lambda number: (-self._scores[rung][number], number))

    def _next_at(self, rung: int) -> int | None:
        """Return who is next to pass a rung, None if no place is free."""
        places = len(self._scores[rung]) // REDUCTION_FACTOR - len(self._passed[rung])
        return next(iter(self._waiting_at(rung)), None) if places > 0 else None

    def _leader_at(self, rung: int) -> int | None:
        """Return the best of all that came to a rung if it waits there, else None."""
        best = max(
            (number for number in self._scores[rung] if number not in self._failed),
            key=lambda number: (self._scores[rung][number], -number),
            default=None,
        )
        return None if best in self._passed[rung] | self._ended else best

    def _most_at(self, index: int) -> int:
        """Return how many trials can have come to a rung in the end."""
        scores = self._scores[self.rungs[index]]
        if index == 0:
            return self._num_trials - len(self._failed - scores.keys())
        passed = self._passed[self.rungs[index - 1]]
        still_passing = self._most_at(index - 1) // REDUCTION_FACTOR - len(passed)
        return len(scores) + len(passed - scores.keys() - self._failed) + max(0, still_passing)


class HalvingScheduler(FIFOScheduler):  # type: ignore[misc]
    """Ray Tune's way to a halving: stops the process of a trial that has to wait.

    Ray stores a scheduler by pickle. Nobody reads that one, so it is empty.
    """

    def __init__(self, halving: Halving) -> None:
        super().__init__()
        self._halving = halving

    def __reduce__(self) -> tuple[Any, ...]:
        return FIFOScheduler, ()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:  # noqa: ANN401, ARG002
        """Decide about a trial after an epoch."""
        number = trial.config["number"]
        if result[FAILURE]:
            self._halving.end(number, has_failed=True)
            return str(TrialScheduler.CONTINUE)  # it ends by itself
        goes_on = self._halving.report(number, history_from_json(result[HISTORY]))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ANN401, ARG002
        """Hear that a trial broke."""
        self._halving.end(trial.config["number"], has_failed=True)
