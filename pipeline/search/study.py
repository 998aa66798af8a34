"""The sampler's memory: an Optuna study that outlives its command.

The records of trials are the truth; a study that lacks one, because a kill came between or its file is gone,
is told from them.
"""

import itertools
import json
import logging
import secrets
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy as shallow_copy
from dataclasses import dataclass
from typing import Any, Literal, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import JobError
from pipeline.search_config import ParetoValue, SearchConfig
from pipeline.storage import StoragePath

from .former import FormerTrial
from .record import TrialRecord
from .score import TRADED, Values, comparable_values, curve_of, values_so_far
from .trial_job import trial_seed

NUMBER, DROPPED, FORMER = "number", "dropped", "former"
"""Attributes of a trial in the study: its number in the sweep, why it was never trained, and of which other
search it is."""

NAME_FILE = "study.json"

MAX_STARTUP_TRIALS = 10
"""Random designs before the sampler has learnt anything; Optuna's own default for long studies."""

MIN_FOR_IMPORTANCE = 4
"""Trials below which importance says nothing; chosen."""

MAX_FOR_IMPORTANCE = 300
"""Trials that importance is taken from; of more, every second, third and so on. fANOVA takes the square of
their number: 4 s for 300, 32 s for 1,000 (measured). Chosen."""

MAX_REPEATED = 100
"""How often a design that was drawn before is drawn anew, at random; then it is trained again, with another
seed. Chosen."""

MAX_DROPPED = 1000
"""How many designs in a row may miss the budget; chosen."""

Design = Mapping[str, Any]
"""Settings by dotted key of the job file."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Designs:
    """What can be drawn.

    Attributes:
        draw: Asks an Optuna trial for a design.
        point: Returns a design by the names that `draw` asks for.
        obstacle: Returns why a design need not be trained, or None.
    """

    draw: Callable[[optuna.trial.BaseTrial], dict[str, Any]]
    point: Callable[[Design], dict[str, Any]]
    obstacle: Callable[[Design], str | None]


class Study:
    """The designs of one sweep, in the order of their numbers.

    It is kept in Optuna's storage. A sampler sees a copy in memory, because what a trial reached there can
    change while it runs.

    Args:
        search: Which sampler, and how many trials.
        seed: Of the job; each design is drawn with a seed of its own, so a sweep that goes on draws what it
            would have drawn.
        designs: What can be drawn.
        first: Designs that come before all others.
        storage: Of Optuna.
        name: In that storage.
        rungs: Epochs after which trials are cut by halving; without it none.
    """

    def __init__(
        self,
        search: SearchConfig,
        *,
        seed: int,
        designs: Designs,
        first: Sequence[Design],
        storage: optuna.storages.BaseStorage,
        name: str,
        rungs: Sequence[int] = (),
    ) -> None:
        self._search = search
        self._seed = seed
        self._designs = designs
        self._first = first
        self._rungs = rungs
        self._directions = [TRADED[name].direction for name in search.pareto] or ["maximize"]
        self._former: dict[str, Sequence[Values]] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            storage=storage, study_name=name, directions=self._directions, load_if_exists=True
        )
        # Only this process writes to the study, so this list is the study without asking a database.
        self._trials: list[FrozenTrial] = []
        self._drawn: dict[int, Design] = {}
        for trial in self.optuna.get_trials():
            self._take_in(trial)

    def learn(self, former: Sequence[FormerTrial]) -> None:
        """Take in what trials of another search reached."""
        known = {trial.user_attrs.get(FORMER) for trial in self._trials}
        for trial in former:
            self._former[trial.name] = [(score,) for score in trial.scores]
            if trial.name not in known:
                self._add(self._trial_at(trial.point, {FORMER: trial.name}, values=trial.scores[-1:]))

    def reconcile(self, records: Iterable[TrialRecord]) -> None:
        """Tell the storage everything that these records hold and it does not."""
        known = {trial.user_attrs.get(NUMBER): trial for trial in self._trials}
        for record in records:
            told = known.get(record.number)
            if told is not None and (told.state.is_finished() or record.outcome is None):
                continue
            values = None if record.outcome is None else self._values_of(record)
            if told is None:
                point = self._designs.point(record.values)
                self._add(self._trial_at(point, {NUMBER: record.number}, values=values))
            elif values is not None:
                self.optuna.tell(told.number, list(values))
                told.state, told.values = TrialState.COMPLETE, list(values)

    def drawn(self) -> dict[int, Design]:
        """Return all designs so far, by number."""
        return dict(self._drawn)

    def draw(self, number: int, records: Iterable[TrialRecord] = ()) -> dict[str, Any]:
        """Draw the design with a number.

        Args:
            number: Of the design.
            records: Of all trials so far.

        Raises:
            JobError: If a thousand designs in a row have an obstacle.
        """
        seed = trial_seed(self._seed, number)
        copy = self._copy(
            self._curves(records, self._search.pareto),
            self._directions,
            at_least=num_startup_trials(self._search),
            sampler=make_sampler(self._search, seed=seed),
        )
        if number < len(self._first):
            copy.enqueue_trial(self._designs.point(self._first[number]))
        earlier, num_repeated = list(self._drawn.values()), 0
        at_random = optuna.samplers.RandomSampler(seed)
        for _ in range(MAX_DROPPED):
            trial = copy.ask()
            design = self._designs.draw(trial)
            if design in earlier and number >= len(self._first) and num_repeated < MAX_REPEATED:
                num_repeated += 1
                copy.tell(trial, state=TrialState.FAIL)  # which no sampler learns from
                copy.sampler = at_random
                continue
            obstacle = self._designs.obstacle(design)
            if obstacle is None:
                self._add(self._asked(trial, {NUMBER: number}, TrialState.RUNNING))
                return design
            copy.tell(trial, state=TrialState.PRUNED)
            self._add(self._asked(trial, {DROPPED: obstacle}, TrialState.PRUNED))
        raise JobError(
            f"a search needs designs that can be trained, {MAX_DROPPED} in a row were dropped, the last "
            f"because {obstacle}; raise the budget, or narrow the space to cheaper designs"
        )

    def importance(self, records: Collection[TrialRecord]) -> dict[str, float]:
        """Return each parameter's share in how scores differ, the largest first; none of fewer than 4 trials.

        Of parameters that every design has; where trials were cut by halving, in how they differed at the
        first cut, to which all of them came.

        Source: fANOVA, Hutter et al. 2014, as in Optuna.
        """
        curves = self._curves(records, ())  # scores tell designs apart also where values are traded off
        step = -(-len(curves) // MAX_FOR_IMPORTANCE) or 1
        curves = dict(itertools.islice(curves.items(), 0, None, step))
        copy = self._copy(curves, ["maximize"], at_least=len(curves))
        ended = copy.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(ended) < MIN_FOR_IMPORTANCE or len({trial.value for trial in ended}) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        return optuna.importance.get_param_importances(copy, evaluator=evaluator)

    def front(self) -> tuple[int, ...]:
        """Return the trials that no other one beats in all that is traded off, by number."""
        return tuple(sorted(trial.user_attrs[NUMBER] for trial in self.optuna.best_trials))

    def num_dropped(self) -> int:
        """Return how many designs had an obstacle."""
        return sum(DROPPED in trial.user_attrs for trial in self._trials)

    def _values_of(self, record: TrialRecord) -> Values:
        """Return what a trial that ended is worth."""
        return self._curves([record], self._search.pareto)[record.number][-1]

    def _curves(
        self, records: Iterable[TrialRecord], pareto: Sequence[ParetoValue]
    ) -> dict[Any, Sequence[Values]]:
        """Return what trials reached by their numbers, those of another search by their names.

        Of trials that still run only where halving makes them comparable.
        """
        curves: dict[Any, Sequence[Values]] = dict(self._former)
        for record in records:
            if record.outcome is not None or (self._rungs and record.history):
                curve = curve_of(record, epochs=self._search.epochs, pareto=pareto)
                curves[record.number] = curve or (values_so_far((), pareto),)
        return curves

    def _copy(
        self,
        curves: Mapping[Any, Sequence[Values]],
        directions: Sequence[Literal["minimize", "maximize"]],
        *,
        at_least: int,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> optuna.Study:
        """Return the study as it is now, with values that can be compared; see `comparable_values`."""
        reached = comparable_values(curves, self._rungs, at_least=at_least)
        copy = optuna.create_study(directions=directions, sampler=sampler)
        for trial in self._trials:
            values = reached.get(trial.user_attrs.get(NUMBER, trial.user_attrs.get(FORMER)))
            copy.add_trial(_SharedTrial.of(trial, values))
        return copy

    def _asked(self, trial: optuna.Trial, attributes: dict[str, Any], state: TrialState) -> FrozenTrial:
        """Return a trial that a copy was asked for, as one of the study."""
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        return optuna.trial.create_trial(
            state=state,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs=attributes,
            system_attrs=frozen.system_attrs,  # genetic samplers note the generation there
        )

    def _trial_at(
        self, point: Mapping[str, Any], attributes: dict[str, Any], *, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        """Return a trial at a point; without values it is running."""
        drawn = optuna.trial.FixedTrial(dict(point))
        self._designs.draw(drawn)
        return optuna.trial.create_trial(
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            values=values,
            params=drawn.params,
            distributions=drawn.distributions,
            user_attrs=attributes,
        )

    def _add(self, trial: FrozenTrial) -> None:
        self.optuna.add_trial(trial)
        trial.number = len(self._trials)
        self._take_in(trial)

    def _take_in(self, trial: FrozenTrial) -> None:
        self._trials.append(trial)
        if NUMBER in trial.user_attrs:
            design = self._designs.draw(optuna.trial.FixedTrial(trial.params))
            self._drawn[trial.user_attrs[NUMBER]] = design


class _SharedTrial(FrozenTrial):
    """A trial whose settings a study in memory shares instead of copying each.

    With a thousand trials that copying took more time than all else in a search (measured).
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return shallow_copy(self)

    @classmethod
    def of(cls, trial: FrozenTrial, values: Values | None) -> Self:
        """Return a trial that has reached these values, or runs; one that was never trained stays so."""
        state = TrialState.RUNNING if values is None else TrialState.COMPLETE
        if trial.state == TrialState.PRUNED:
            state = TrialState.PRUNED
        return cls(
            number=trial.number,
            state=state,
            value=None,
            values=values,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_start if state.is_finished() else None,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs=trial.system_attrs,
            intermediate_values={},
            trial_id=trial.number,
        )


def num_startup_trials(search: SearchConfig) -> int:
    """Return how many designs are drawn before the sampler has learnt enough."""
    return min(MAX_STARTUP_TRIALS, max(2, search.trials // 3))


def make_sampler(search: SearchConfig, *, seed: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler of that name."""
    num_random = num_startup_trials(search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=num_random)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_random)
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=num_random,
                    multivariate=True,
                    group=True,  # conditional parameters are sampled with those that apply together
                    constant_liar=True,  # trials that run count as bad, so that others lie elsewhere
                )


def study_name(folder: StoragePath, job_name: str) -> str:
    """Return the name of a sweep's study, which no other sweep has; made and kept with the first call."""
    file = folder / NAME_FILE
    if not file.exists():
        file.write_text(json.dumps({"name": f"{job_name}-{secrets.token_hex(4)}"}))
    return str(json.loads(file.read_text())["name"])


def forget_study(folder: StoragePath) -> None:
    """Let a sweep have a new study; the old one stays in its storage."""
    (folder / NAME_FILE).delete()
