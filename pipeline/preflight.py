"""Everything that can be found wrong with a job before anything starts, all of it in one go."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from cluster.runtime import Capacity, capacity
from pipeline.config import Job, SearchConfig, examine_job, read_job
from pipeline.data.inspection import one_class_problem
from pipeline.data.plan import check_location
from pipeline.data.sources import open_source
from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.misfit import PretrainedError
from pipeline.networks.pretrained import check_source
from pipeline.networks.profiles import StageSize
from pipeline.registry.register import check_model_name
from pipeline.registry.store import connect
from pipeline.search.former import former_trials
from pipeline.storage.check import check_storage
from pipeline.storage.object_store import is_s3
from pipeline.survey import explain
from pipeline.training.plan import describe_network, describe_teacher, objective_of
from search_spaces import SearchSpace, load_space
from search_spaces.keys import SPLIT

TRACKING_TIMEOUT_S = 8
"""A server that is not there has to be said within 15 s of the command, imports included."""


def checked_job(source: str, settings: Sequence[str]) -> Job:
    """Read a job file or preset and check all of it.

    Raises:
        RequestError: With everything that is wrong with it.
    """
    found = examine_job(read_job(source, settings))
    problems = [*found.problems]
    if found.job is not None:
        problems += find_problems(found.job, stand_ins=found.stand_ins)
    if found.job is None or problems:
        raise RequestError(problems)
    return found.job


def find_problems(job: Job, *, stand_ins: Collection[str] = ()) -> list[str]:
    """Return what is wrong with a job: law, value seen and way out of each problem.

    Args:
        job: To check.
        stand_ins: Keys whose values are not the user's, so that nothing may be said of them.
    """
    network, problems = (None, []) if "backbone.name" in stand_ins else _try_network(job)
    if network is not None:
        problems += _pretrained_problems(job) + _layer_problems(job, network)
    problems += _teacher_problems(job)
    if "data.train" not in stand_ins:
        problems += _data_problems(job)
    problems += placement_problems(job, capacity())
    problems += mixing_problems(job)
    if job.search is not None and network is not None and "search.space" not in stand_ins:
        problems += _space_problems(job, network)
    problems += check_model_name(job.registry.model)
    problems += check_storage(job.storage, job.s3)
    problems += _tracking_problems(job)
    return problems


def stage_sizes(network: AdaptiveDepthNetwork) -> Sequence[StageSize]:
    """Return the size of every stage."""
    return [layout.size for layout in network.layouts]


def shape_of(job: Job) -> AdaptiveDepthNetwork:
    """Return a job's network without weights; raises ValueError if it cannot be built for its images."""
    with torch.device("meta"):
        return describe_network(job, num_classes=2).build()


def placement_problems(job: Job, room: Capacity) -> list[str]:
    """Return why the workers of a job can never run at the same time on a cluster, if so."""
    training = job.training
    gpus = 1 if training.use_gpu else 0
    places = room.places(cpus=training.cpus_per_worker, gpus=gpus)
    if training.workers <= places:
        return []
    size = f"{training.cpus_per_worker} CPUs and {gpus} GPUs"
    return [
        f"training.workers must fit on the cluster at the same time, got {training.workers} workers of "
        f"{size} each, which needs {training.workers * training.cpus_per_worker} CPUs and "
        f"{training.workers * gpus} GPUs; there is {room}, room for {places}; lower training.workers or "
        "training.cpus_per_worker, or set RAY_ADDRESS to a larger cluster"
    ]


def mixing_problems(job: Job) -> list[str]:
    """Return why the images of a batch cannot be mixed in pairs, if so."""
    images = job.training.micro_batch_size // job.training.workers
    if not job.augmentation.mixes or images % 2 == 0:
        return []
    return [
        f"augmentation.mixup and cutmix need an even number of images a worker, got {images} "
        "(training.batch_size over accumulation_steps and workers); change training.batch_size"
    ]


def _try_network(job: Job) -> tuple[AdaptiveDepthNetwork | None, list[str]]:
    try:
        return shape_of(job), []
    except ValueError as error:
        return None, [f"backbone: {explain(error)}"]


def _pretrained_problems(job: Job) -> list[str]:
    if job.backbone.pretrained is False:
        return []
    try:
        check_source(describe_network(job, num_classes=2), job.backbone.pretrained)
    except PretrainedError as error:
        return [f"backbone: {error}"]
    return []


def _teacher_problems(job: Job) -> list[str]:
    """Return what is wrong with the teacher; whether it knows the classes is seen with the data."""
    teacher, description = job.distillation.teacher, describe_teacher(job, num_classes=2)
    if teacher is None or description is None:
        return []
    try:
        check_source(description, True if teacher.weights is True else str(teacher.weights))
    except ValueError as error:
        return [f"distillation.teacher: {error}"]
    return []


def _layer_problems(job: Job, network: AdaptiveDepthNetwork) -> list[str]:
    if job.training.layer_decay is None:
        return []
    try:
        network.group_matcher()
    except ValueError as error:
        return [f"backbone: {error}"]
    return []


def _data_problems(job: Job) -> list[str]:
    locations = [job.data.train, *([job.data.validation] if job.data.validation else [])]
    with ThreadPoolExecutor(len(locations)) as pool:  # stores that do not answer are waited for together
        found = pool.map(lambda location: check_location(location, job.s3), locations)
        problems = [problem for location_problems in found for problem in location_problems]
    # An object store's labels are known once it is copied, which is more than a check may take.
    if not problems and not is_s3(job.data.train):
        problems = _class_problems(job.data.train)
    return [f"data: {problem}" for problem in problems]


def _class_problems(location: str) -> list[str]:
    try:
        return one_class_problem(open_source(location))
    except RequestError as error:
        return list(error.problems)


def load_space_for(job: Job, name_or_path: str) -> SearchSpace:
    """Read a search space; where it draws backbones, with the stages of each.

    Raises:
        RequestError: If there is no such space, or it draws backbones that cannot be built as the job says or
            compared by its objective.
    """
    space = load_space(name_or_path)
    if not space.backbones:
        return space
    problems = [] if job.search is None else _comparison_problems(job, job.search)
    variants = {}
    for name in space.backbones:
        try:
            variants[name] = stage_sizes(shape_of(job.override({"backbone.name": name, "split": "paper"})))
        except ValueError as error:
            problems.append(f"space {name_or_path!r}: backbone.name: {name}: {explain(error)}")
    if problems:
        raise RequestError(problems)
    return replace(space, variants=variants)


def _comparison_problems(job: Job, search: SearchConfig) -> list[str]:
    """Return why different backbones cannot be told apart by a job's search."""
    problems = []
    if search.objective == "hypervolume":
        problems.append(
            "backbones cannot be compared by objective: hypervolume, whose costs are relative to each "
            "backbone's own; write budget, full_accuracy or base_accuracy"
        )
    if job.backbone.pretrained is not False:
        problems.append(
            "a search over backbones starts from new weights, got backbone.pretrained: "
            f"{job.backbone.pretrained}; leave it out, or search one backbone"
        )
    return problems


def dropped_because(job: Job, design: Mapping[str, Any]) -> str | None:
    """Return why no profile of a design meets the budget of a search, None if one does; trains nothing."""
    objective = objective_of(job)
    if objective.name != "budget":
        return None
    network = shape_of(job.override(design))
    _, cheapest = network.extremes
    excess = objective.excess(network, cheapest)
    return f"its cheapest depth needs {excess}" if excess else None


def _space_problems(job: Job, network: AdaptiveDepthNetwork) -> list[str]:
    if job.search is None:
        return []
    stages = stage_sizes(network)
    try:
        space = load_space_for(job, job.search.space)
        problems = space.check(job, stages) or _budget_problems(job, space, network)
        if not problems:
            former_trials(job, job.search, space, stages)
    except RequestError as error:
        problems = list(error.problems)
    return [f"search: {problem}" for problem in problems]


def _budget_problems(job: Job, space: SearchSpace, network: AdaptiveDepthNetwork) -> list[str]:
    """Return a message if no design of a space can meet the budget."""
    excess = []
    for name, stages in (space.variants or {job.backbone.name: stage_sizes(network)}).items():
        smallest = {"split": [stage.min_mandatory for stage in stages]} if SPLIT in space.ranges else {}
        excess.append(dropped_because(job, {"backbone.name": name, **smallest}))
    if all(excess):
        return [
            f"a budget must be within reach, of the smallest design {excess[0]}; raise it, or shrink "
            "the backbone"
        ]
    own = dropped_because(job, {})
    if job.search is None or not job.search.paper_first or own is None:
        return []
    return [
        f"the search starts from the job's own design, {own}; raise the budget, lower the split, or write "
        "search.paper_first: false"
    ]


def _tracking_problems(job: Job) -> list[str]:
    """Ask a tracking server for an answer; the embedded one is a file below storage."""
    if job.registry.tracking_uri is None:
        return []
    try:
        connect(job.registry.tracking_uri, timeout_s=TRACKING_TIMEOUT_S)
    except RequestError as error:
        return [f"registry: {problem}" for problem in error.problems]
    return []
