"""The sweep: Optuna proposes designs, Ray Train trains them, ASHA stops the unpromising ones.

A sweep's folder holds `tune/` (what Ray Tune goes on from), `trials/` (checkpoints of running
trials), `records/` (what every trial brought), `data.npz` (the images of trials) and at the end
`result.json`.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from cluster.runtime import capacity
from pipeline.config import Job, SearchConfig
from pipeline.errors import JobError, RequestError
from pipeline.networks.profiles import StageSize
from pipeline.storage import StoragePath
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import NOTHING_GIVEN, load_data_plan
from pipeline.training.worker import SCORE
from search_spaces import SearchSpace, load_space

from .observer import GuardedObserver, TrialObserver
from .record import TrialRecord
from .result import SearchResult, TrialResult
from .snapshot import can_restore
from .trial import TRIAL_RESOURCES, TrialSetup, run_trial
from .trial_job import trial_seed
from .watcher import TrialWatcher

REDUCTION_FACTOR = 2
"""ASHA keeps the better half at epochs 1, 2, 4 and so on; chosen for sweeps of about ten trials."""

MAX_PROCESS_FAILURES = 2
"""How often a trial whose process or node died goes on from its checkpoint; chosen. Ray Train counts what its
workers raise on its own."""

MAX_STARTUP_TRIALS = 10
"""Random designs before the sampler has learnt anything; Optuna's own default for long studies."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Designs:
    """What Optuna calls for every trial; a value that pickles, because Ray stores it.

    Attributes:
        space: What to draw from.
        stages: Size of every stage.
    """

    space: SearchSpace
    stages: tuple[StageSize, ...]

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the configuration of a trial."""
        return {"number": trial.number, "values": self.space.suggest(trial, self.stages)}


def run_search(
    job: Job,
    data: StoragePath,
    *,
    folder: StoragePath,
    stages: Sequence[StageSize],
    observer: TrialObserver,
    weights: GivenWeights = NOTHING_GIVEN,
) -> SearchResult:
    """Search the job's space; needs a connection to Ray.

    The same call goes on where an earlier one ended: trials that ended are told to the observer
    again and not trained again, running ones go on from their last epoch, a whole sweep returns its
    stored result. A sweep without one sound trial starts anew.

    Args:
        job: With a search section.
        data: File of the data plan.
        folder: Of this sweep alone.
        stages: Size of every stage of the job's backbone.
        observer: Told about every trial, in this process.
        weights: Files for a job that is pretrained or has a teacher.

    Raises:
        RequestError: If the space does not fit the job; with all problems.
        JobError: If every trial failed, or the sweep ended before its last trial.
    """
    search, space = require_search(job, stages)
    setup = TrialSetup(job=job, search=search, data=folder / "data.npz", folder=folder, weights=weights)
    stored = folder / "result.json"
    forget_failed_sweep(setup)
    watcher = TrialWatcher(setup, GuardedObserver(observer))
    watcher.tell_again()
    if stored.exists():
        return SearchResult.from_json(stored.read_text())
    # Every trial sees the same share of the images, so that scores are comparable.
    part = load_data_plan(data).take(search.data_fraction, seed=job.seed)
    with setup.data.writing() as path:
        part.save(path)
    with watcher.active():
        open_tuner(setup, Designs(space, tuple(stages)), watcher).fit()
    result = collect(watcher.records.values(), search)
    stored.write_text(result.to_json())
    setup.runs.delete()
    return result


def require_search(job: Job, stages: Sequence[StageSize]) -> tuple[SearchConfig, SearchSpace]:
    """Return a job's search section and space.

    Raises:
        RequestError: If there is no such section or space, or the space does not fit the job.
    """
    if job.search is None:
        raise RequestError(
            "a search needs a search section, the job has none; add search: with space and epochs"
        )
    space = load_space(job.search.space)
    problems = space.check(job, stages)
    if problems:
        raise RequestError(problems)
    return job.search, space


def forget_failed_sweep(setup: TrialSetup) -> None:
    """Make room for a new sweep where all trials of the earlier one failed."""
    outcomes = [record.outcome for record in setup.records.load_all()]
    if len(outcomes) >= setup.search.trials and set(outcomes) == {"failed"}:
        _log.info("all %d trials of the earlier search failed; it starts anew", len(outcomes))
        setup.folder.delete()


def open_tuner(setup: TrialSetup, designs: Designs, watcher: TrialWatcher) -> tune.Tuner:
    """Return the Tuner of a sweep: at Ray's latest snapshot, else at the records of its trials."""
    trainable = tune.with_resources(tune.with_parameters(run_trial, setup=setup), TRIAL_RESOURCES)
    folder = setup.folder / "tune"
    if can_restore(folder):
        return tune.Tuner.restore(folder.path, trainable=trainable, storage_filesystem=folder.filesystem)
    folder.delete()
    concurrency = max_concurrent_trials(setup.job)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=sampler_of_designs(
                setup, designs, known_designs(setup, designs), concurrency=concurrency
            ),
            scheduler=ASHAScheduler(
                time_attr="epoch",
                metric=SCORE,
                mode="max",
                # One more than there are, so that the last epoch of a good trial does not count as
                # stopped.
                max_t=setup.search.epochs + 1,
                grace_period=1,
                reduction_factor=REDUCTION_FACTOR,
            ),
            num_samples=setup.search.trials,
            max_concurrent_trials=concurrency,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=setup.folder.path,
            storage_filesystem=folder.filesystem,
            failure_config=tune.FailureConfig(max_failures=MAX_PROCESS_FAILURES),
            callbacks=[watcher],
            verbose=0,
        ),
    )


def known_designs(setup: TrialSetup, designs: Designs) -> list[dict[str, Any]]:
    """Return which designs come first, as Optuna names them: those with a record, else the job's own."""
    # Up to the first gap: Optuna numbers designs in the order in which they come.
    values = [record.values for n, record in enumerate(setup.records.load_all()) if record.number == n]
    start = designs.space.start_point(setup.job, designs.stages)
    return [designs.space.point(design, designs.stages) for design in values] or [start]


def sampler_of_designs(
    setup: TrialSetup, designs: Designs, first: list[dict[str, Any]], *, concurrency: int
) -> OptunaSearch:
    """Return Optuna's search; trial 0 is the first of the designs that come `first`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            # Another seed where designs are known: the same one would draw them once more.
            seed=trial_seed(setup.job.seed, len(first)),
            n_startup_trials=min(MAX_STARTUP_TRIALS, max(2, setup.search.trials // 3)),
            multivariate=True,
            constant_liar=concurrency > 1,
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(designs, metric=SCORE, mode="max", sampler=sampler, points_to_evaluate=first)


def max_concurrent_trials(job: Job) -> int:
    """Return how many trials the connected cluster holds at the same time; at least one."""
    recipe = job.training
    places = capacity().places(cpus=recipe.cpus_per_worker, gpus=int(recipe.use_gpu))
    return max(1, places // recipe.workers)


def collect(records: Iterable[TrialRecord], search: SearchConfig) -> SearchResult:
    """Return the result of a sweep.

    Raises:
        JobError: If a trial is missing or has not ended, or all failed.
    """
    ended = [TrialResult.from_record(record) for record in records if record.outcome is not None]
    if len(ended) < search.trials:
        raise JobError(
            f"a search ends with its last trial, this one was interrupted after {len(ended)} of "
            f"{search.trials}; run the same command again, it goes on"
        )
    return SearchResult.of(ended)
