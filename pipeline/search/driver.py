"""The sweep: Optuna proposes designs, Ray Train trains them, a scheduler stops the unpromising ones.

A sweep's folder holds `records/` (what every trial brought, the truth), `study.db` (the sampler's memory,
made again from the records where it is lost), `trials/` (checkpoints of running trials), `data.npz` (the
images of trials), `tune/` (Ray Tune's own; nothing is read from it) and at the end `result.json`.
"""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.leftovers import leftover_groups_removed
from cluster.runtime import capacity, growth
from pipeline.config import Job
from pipeline.data.cache import cache_folder
from pipeline.errors import JobError, RequestError
from pipeline.networks.cost import BlockLatencies
from pipeline.networks.profiles import StageSize
from pipeline.search_config import SearchConfig
from pipeline.storage import StoragePath
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import NOTHING_GIVEN, NOTHING_MEASURED, load_data_plan
from search_spaces import SearchSpace
from search_spaces.keys import SPLIT

from .fitting import budget_problems, dropped_because, load_space_for
from .former import former_trials
from .halving import Halving
from .latencies import measured_latencies
from .observer import GuardedObserver, TrialObserver, WarmupObserver
from .one_shot import BEST_SPLITS, score_all_splits
from .record import TrialRecord
from .result import SearchResult, TrialResult
from .schedulers import make_scheduler
from .searchers import ListSearcher, StudySearcher
from .study import Designs, Study, forget_study, study_name
from .trial import TRIAL_RESOURCES, TrialSetup, run_trial
from .watcher import TrialWatcher

MAX_PROCESS_FAILURES = 2
"""How often a trial whose process or node died goes on from its checkpoint; chosen. Ray Train counts what its
workers raise on its own."""

_log = logging.getLogger(__name__)


def run_search(
    job: Job,
    data: StoragePath,
    *,
    folder: StoragePath,
    stages: Sequence[StageSize],
    observers: Sequence[TrialObserver],
    weights: GivenWeights = NOTHING_GIVEN,
    on_warmup: WarmupObserver | None = None,
) -> SearchResult:
    """Search the job's space; needs a connection to Ray.

    The same call goes on where an earlier one ended: trials that ended are told to the observers
    again and not trained again, running ones go on from their last epoch, a whole sweep returns its
    stored result. Where the search gave up, the trials that failed are drawn anew.

    Args:
        job: With a search section.
        data: File of the data plan.
        folder: Of this sweep alone.
        stages: Size of every stage of the job's backbone.
        observers: Told about every trial, in this process.
        weights: Files for a job that is pretrained or has a teacher.
        on_warmup: Told about the training before the first trial, where there is one.

    Raises:
        RequestError: If the space does not fit the job; with all problems.
        JobError: If too many trials failed, or the sweep ended before its last trial.
    """
    search, space = require_search(job, stages)
    setup = TrialSetup(
        job=job,
        search=search,
        data=folder / "data.npz",
        folder=folder,
        weights=weights,
        latencies=latencies_for(job, search, space, stages, folder=folder),
    )
    stored = folder / "result.json"
    forget_failures(setup)
    halving = open_halving(search)
    watcher = TrialWatcher(setup, GuardedObserver(*observers), halving)
    watcher.tell_again()
    if stored.exists():
        return SearchResult.from_json(stored.read_text())
    # Every trial sees the same share of the images, so that scores are comparable.
    part = load_data_plan(data).take(search.data_fraction, seed=job.seed)
    with setup.data.writing() as path:
        part.save(path)
    first = first_designs(job, search, space, stages)
    if search.warmup:
        first += warm_up(setup, space, stages, first, on_warmup)
    study = open_study(setup, space, stages, first=first, rungs=halving.rungs if halving else ())
    study.reconcile(of_search(watcher.records.values(), search))
    searcher = StudySearcher(
        study,
        room=partial(max_concurrent_trials, job),
        trials=search.trials,
        records=watcher.records,
        halving=halving,
        gives_up=lambda: has_failed(watcher.records.values(), search),
    )
    run_trials(setup, watcher, searcher, make_scheduler(search, watcher.ended(), halving))
    watcher.settle()
    ended = collect(watcher.records.values(), search)
    records = of_search(watcher.records.values(), search)
    study.reconcile(records)
    result = SearchResult.of(
        ended,
        importance=study.importance(records),
        num_dropped=study.num_dropped(),
        front=study.front() if search.pareto else (),
    )
    if search.repeats and result.best.number:
        result = replace(result, repeats=run_repeats(setup, watcher, result))
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
    space = load_space_for(job, job.search.space)
    problems = space.check(job, stages)
    if problems:
        raise RequestError(problems)
    return job.search, space


def latencies_for(
    job: Job, search: SearchConfig, space: SearchSpace, stages: Sequence[StageSize], *, folder: StoragePath
) -> Mapping[str, BlockLatencies]:
    """Return the latencies that a search goes by, none if it needs none.

    Raises:
        RequestError: If the budget in milliseconds is out of reach.
    """
    if not search.needs_latency:
        return NOTHING_MEASURED
    latencies = measured_latencies(job, space.backbones or [job.backbone.name], folder=folder)
    problems = budget_problems(job, search, space, stages, latencies)
    if problems:
        raise RequestError(problems)
    return latencies


def forget_failures(setup: TrialSetup) -> None:
    """Make room for new trials where too many failed in an earlier command."""
    records = setup.records.load_all()
    if not has_failed(records, setup.search):
        return
    _log.info("the earlier search gave up; its failed trials are drawn anew")
    for record in records:
        if record.outcome == "failed":
            setup.records.delete(record.number)
    forget_study(setup.folder)


def has_failed(records: Iterable[TrialRecord], search: SearchConfig) -> bool:
    """Return whether so many trials failed that the search gives up."""
    num_failed = sum(record.outcome == "failed" for record in of_search(records, search))
    return num_failed > search.max_failed * search.trials or num_failed == search.trials


def open_halving(search: SearchConfig) -> Halving | None:
    """Return what decides which trials go beyond which epoch; None with another scheduler.

    The job's own design always goes on: it is what the winner is compared with.
    """
    if search.scheduler != "asha":
        return None
    return Halving(trials=search.trials, epochs=search.epochs, exempt=[0] if search.paper_first else [])


def open_study(
    setup: TrialSetup,
    space: SearchSpace,
    stages: Sequence[StageSize],
    *,
    first: Sequence[Mapping[str, Any]],
    rungs: Sequence[int],
) -> Study:
    """Return the study of a sweep."""
    job, search = setup.job, setup.search
    study = Study(
        search,
        seed=job.seed,
        designs=Designs(
            draw=partial(space.suggest, stages=stages),
            point=partial(space.point, stages=stages),
            obstacle=partial(dropped_because, job, latencies=setup.latencies),
        ),
        first=first,
        storage=optuna.storages.RDBStorage(search.study or study_url(setup.folder)),
        name=study_name(setup.folder, job.name),
        rungs=rungs,
    )
    study.learn(former_trials(job, search, space, stages))
    return study


def of_search(records: Iterable[TrialRecord], search: SearchConfig) -> list[TrialRecord]:
    """Return the records of trials without those of repeats, which come after them."""
    return [record for record in records if record.number < search.trials]


def study_url(folder: StoragePath) -> str:
    """Return where a sweep's study is kept by default: a file cannot be written to in an object store."""
    local = folder.local_path if folder.is_local else cache_folder("studies") / folder.path
    local.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{local / 'study.db'}"


def first_designs(
    job: Job, search: SearchConfig, space: SearchSpace, stages: Sequence[StageSize]
) -> list[Mapping[str, Any]]:
    """Return the designs that come before those of the sampler."""
    own = space.start_design(job, stages)
    return [*([own] if search.paper_first else []), *({**own, **point} for point in search.start_points)]


def warm_up(
    setup: TrialSetup,
    space: SearchSpace,
    stages: Sequence[StageSize],
    first: Sequence[Mapping[str, Any]],
    observer: WarmupObserver | None,
) -> list[Mapping[str, Any]]:
    """Return designs with the best splits of a one-shot network that the space can draw and that are new."""
    job = setup.job
    scores = score_all_splits(
        job,
        setup.search,
        setup.data,
        folder=setup.folder,
        weights=setup.weights,
        latencies=setup.latencies,
        on_progress=observer.on_progress if observer else lambda _progress: None,
    )
    if observer:
        observer.on_scores(scores)
    own = space.start_design(job, stages)
    designs = [{**own, SPLIT: list(split)} for split in scores]
    fitting: list[Mapping[str, Any]] = [
        design
        for design in designs
        if design not in first
        and space.holds(design, stages)
        and dropped_because(job, design, setup.latencies) is None
    ]
    return fitting[:BEST_SPLITS]


def run_repeats(setup: TrialSetup, watcher: TrialWatcher, result: SearchResult) -> tuple[TrialResult, ...]:
    """Train the winner and the job's own design in turns with new seeds, for all epochs of a trial.

    The scores by which the winner was chosen flatter it, and its rival may have been stopped early.

    Raises:
        JobError: If a training has not ended.
    """
    designs = (result.trials[0].values, result.best.values)
    numbers = range(setup.search.trials, setup.search.trials + 2 * setup.search.repeats)
    ended = {record.number for record in watcher.ended()}
    left = [
        {"number": number, "values": dict(values)}
        for number, values in zip(numbers, itertools.cycle(designs), strict=False)
        if number not in ended
    ]
    searcher = ListSearcher(left, room=partial(max_concurrent_trials, setup.job))
    run_trials(setup, watcher, searcher, FIFOScheduler())
    found = [TrialResult.from_record(record) for record in watcher.ended() if record.number in numbers]
    if len(found) < len(numbers):
        raise JobError(
            f"a search ends with its last repeat, this one was interrupted after {len(found)} of "
            f"{len(numbers)}; run the same command again, it goes on"
        )
    return tuple(found)


def run_trials(
    setup: TrialSetup, watcher: TrialWatcher, searcher: Searcher, scheduler: TrialScheduler
) -> None:
    """Run trials until the searcher has no more."""
    folder = setup.folder / "tune"
    folder.delete()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, setup=setup), TRIAL_RESOURCES),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # until the searcher says that there are no more
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
    with leftover_groups_removed():
        tuner.fit()


def max_concurrent_trials(job: Job) -> int:
    """Return how many trials the cluster holds at the same time, now or once it has grown, within the limits.

    At least one.
    """
    recipe = job.training
    cpus, gpus = recipe.cpus_per_worker, int(recipe.use_gpu)
    places = max(room.places(cpus=cpus, gpus=gpus) for room in (capacity(), growth()))
    limit = job.limits.most_workers(recipe)
    return max(1, (places if limit is None else min(places, limit)) // recipe.workers)


def collect(records: Iterable[TrialRecord], search: SearchConfig) -> list[TrialResult]:
    """Return the trials of a sweep that is over.

    Raises:
        JobError: If a trial is missing or has not ended, or too many failed.
    """
    records = of_search(records, search)
    ended = [TrialResult.from_record(record) for record in records if record.outcome is not None]
    if has_failed(records, search):
        raise JobError(explain_failures(ended, search))
    if len(ended) < search.trials:
        raise JobError(
            f"a search ends with its last trial, this one was interrupted after {len(ended)} of "
            f"{search.trials}; run the same command again, it goes on"
        )
    return ended


def explain_failures(ended: Iterable[TrialResult], search: SearchConfig) -> str:
    """Return why a search gave up, with the cause of every failure."""
    failed = [trial for trial in ended if trial.outcome == "failed"]
    causes = "\n".join(f"  trial {trial.number + 1}: {trial.cause}" for trial in failed)
    return (
        f"a search gives up when more than {search.max_failed:.0%} of its trials fail (search.max_failed), "
        f"{len(failed)} of {search.trials} did:\n{causes}\n"
        "remove the cause and run the same command again; trials that did not fail are kept"
    )
