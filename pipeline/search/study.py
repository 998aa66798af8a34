"""The sampler's memory: an Optuna study that outlives its command.

A trial is asked for by the driver, and what it brought is told when it ends. The records of trials are the
truth; a study that lacks one, because a kill came between or its file is gone, is told from them.
"""

import json
import logging
import secrets
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from pipeline.config import SearchConfig
from pipeline.errors import JobError
from pipeline.storage import StoragePath
from pipeline.training.worker import SCORE

from .former import FormerTrial
from .record import TrialRecord
from .score import FAILED_SCORE, score_so_far
from .trial_job import trial_seed

NUMBER, DROPPED, FORMER = "number", "dropped", "former"
"""Attributes of a trial in the study: its number in the sweep, why it was never trained, and of which other
search it is."""

NAME_FILE = "study.json"

MAX_STARTUP_TRIALS = 10
"""Random designs before the sampler has learnt anything; Optuna's own default for long studies."""

MIN_FOR_IMPORTANCE = 4
"""Trials below which importance says nothing; chosen."""

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

    Args:
        search: Which sampler, and how many trials.
        seed: Of the job; each design is drawn with a seed of its own, so a sweep that goes on draws what it
            would have drawn.
        designs: What can be drawn.
        first: Designs that come before all others.
        storage: Of Optuna.
        name: In that storage.
        concurrency: How many trials run at the same time.
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
        concurrency: int,
    ) -> None:
        self._search = search
        self._seed = seed
        self._designs = designs
        self._first = first
        self._concurrency = concurrency
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )

    def learn(self, former: Sequence[FormerTrial]) -> None:
        """Tell what trials of another search reached, once."""
        known = {trial.user_attrs.get(FORMER) for trial in self.optuna.get_trials(deepcopy=False)}
        for trial in former:
            if trial.name not in known:
                self._add(trial.point, {FORMER: trial.name}, trial.score)

    def reconcile(self, records: Sequence[TrialRecord]) -> None:
        """Tell everything that these records hold and the study does not."""
        known = {}
        for trial in self.optuna.get_trials(deepcopy=False):
            if NUMBER in trial.user_attrs:
                known[trial.user_attrs[NUMBER]] = trial
            elif trial.state == TrialState.RUNNING:  # a kill came before it had a number
                self.optuna.tell(trial.number, state=TrialState.FAIL)
        for record in records:
            told = known.get(record.number)
            if told is None:
                value = None if record.outcome is None else value_of(record)
                self._add(self._designs.point(record.values), {NUMBER: record.number}, value)
            elif record.outcome is not None and not told.state.is_finished():
                self.optuna.tell(told.number, value_of(record))

    def drawn(self) -> dict[int, Design]:
        """Return all designs so far, by number."""
        return {
            trial.user_attrs[NUMBER]: self._designs.draw(optuna.trial.FixedTrial(trial.params))
            for trial in self.optuna.get_trials(deepcopy=False)
            if NUMBER in trial.user_attrs
        }

    def draw(self, number: int) -> dict[str, Any]:
        """Draw the design with a number.

        Raises:
            JobError: If a thousand designs in a row have an obstacle.
        """
        # Seeded by the number, so that a kill changes nothing.
        self.optuna.sampler = make_sampler(
            self._search, seed=trial_seed(self._seed, number), is_concurrent=self._concurrency > 1
        )
        waiting = self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if number < len(self._first) and not waiting:
            self.optuna.enqueue_trial(self._designs.point(self._first[number]))
        for _ in range(MAX_DROPPED):
            trial = self.optuna.ask()
            design = self._designs.draw(trial)
            obstacle = self._designs.obstacle(design)
            if obstacle is None:
                trial.set_user_attr(NUMBER, number)
                return design
            trial.set_user_attr(DROPPED, obstacle)
            self.optuna.tell(trial, state=TrialState.PRUNED)
        raise JobError(
            f"a search needs designs that can be trained, {MAX_DROPPED} in a row were dropped, the last "
            f"because {obstacle}; raise the budget, or narrow the space to cheaper designs"
        )

    def tell(self, number: int, value: float) -> None:
        """Tell what the design with a number reached; once is enough."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(NUMBER) == number:
                self.optuna.tell(trial.number, value)

    def importance(self) -> dict[str, float]:
        """Return each parameter's share in how scores differ, the largest first; none of fewer than 4 trials.

        Of parameters that every design has.

        Source: fANOVA, Hutter et al. 2014, as in Optuna.
        """
        ended = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(ended) < MIN_FOR_IMPORTANCE or len({trial.value for trial in ended}) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        return optuna.importance.get_param_importances(self.optuna, evaluator=evaluator)

    def num_dropped(self) -> int:
        """Return how many designs had an obstacle."""
        return sum(DROPPED in trial.user_attrs for trial in self.optuna.get_trials(deepcopy=False))

    def _add(self, point: Mapping[str, Any], attributes: dict[str, Any], value: float | None) -> None:
        """Add a trial that was not asked for here; without a value it is running."""
        drawn = optuna.trial.FixedTrial(dict(point))
        self._designs.draw(drawn)
        self.optuna.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
                value=value,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs=attributes,
            )
        )


class StudySearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's way to a study: hands out designs that have not ended, then new ones.

    Ray stores a searcher by pickle. Nobody reads that one, so it is empty.

    Args:
        study: With all records told.
        trials: How many designs there are.
        ended: Numbers of trials whose records say that they are over. The study may say so of others: it
            hears of an end before the record does.
        gives_up: Asked before every design, whether there shall be no more.
    """

    def __init__(
        self, study: Study, *, trials: int, ended: Collection[int], gives_up: Callable[[], bool]
    ) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._study = study
        self._gives_up = gives_up
        drawn = study.drawn()
        self._waiting = {number: design for number, design in drawn.items() if number not in ended}
        self._new = [number for number in range(trials) if number not in drawn]
        self._numbers: dict[str, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, ()

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401
        """Return the configuration of a trial: its number and its design."""
        if self._gives_up() or not (self._waiting or self._new):
            return Searcher.FINISHED
        if self._waiting:
            number = min(self._waiting)
            design = dict(self._waiting.pop(number))
        else:
            number = self._new.pop(0)
            design = self._study.draw(number)
        self._numbers[trial_id] = number
        return {"number": number, "values": design}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study; a trial that broke counts as the worst there is."""
        is_sound = result is not None and not error
        self._study.tell(self._numbers.pop(trial_id), result[SCORE] if is_sound and result else FAILED_SCORE)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is stored already."""


class ListSearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's way to configurations that are known."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._configs = list(configs)

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401, ARG002
        """Return the next one."""
        return self._configs.pop(0) if self._configs else Searcher.FINISHED

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,
    ) -> None:
        """Learn nothing."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: what ended has a record."""


def value_of(record: TrialRecord) -> float:
    """Return what a trial that ended is worth to the sampler."""
    return FAILED_SCORE if record.outcome == "failed" else score_so_far(record.history)


def make_sampler(search: SearchConfig, *, seed: int, is_concurrent: bool) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler of that name."""
    num_random = min(MAX_STARTUP_TRIALS, max(2, search.trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_random)
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=num_random,
                    multivariate=True,
                    group=True,  # conditional parameters are sampled with those that apply together
                    constant_liar=is_concurrent,
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
