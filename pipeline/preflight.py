"""Everything that can be found wrong with a job before anything starts, all of it in one go."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.runtime import WAY_OUT, Capacity, capacity, growth, is_embedded, silence
from pipeline.checks.model_arguments import argument_problems
from pipeline.checks.no_effect import class_problems
from pipeline.checks.rehearsal import recipe_problems, trial_problems
from pipeline.checks.shapes import teacher_problems, try_network, without_refused_arguments
from pipeline.config import Job, examine_job
from pipeline.data.bad_items import BadItemRule
from pipeline.data.inspection import classes_to_learn, one_class_problem
from pipeline.data.plan import check_location
from pipeline.data.sources import open_source
from pipeline.doctor.checks import node_checks
from pipeline.doctor.findings import examine
from pipeline.doctor.nodes import Needs, Nodes
from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.misfit import PretrainedError
from pipeline.networks.pretrained import Source, check_source
from pipeline.registry.register import check_model_name
from pipeline.registry.store import connect, sqlite_path, tracking_uri
from pipeline.search.fitting import search_problems
from pipeline.storage.check import check_storage
from pipeline.storage.object_store import is_s3
from pipeline.training.channels import channel_problems
from pipeline.training.plan import describe_network, describe_teacher


def checked_job(data: Mapping[str, Any], *, await_server: Callable[[], None] = lambda: None) -> Job:
    """Check all of a job.

    Args:
        data: As `read_job` reads it.
        await_server: Waits for what the tracking server was asked ahead; see `probe.ask_ahead`.

    Raises:
        RequestError: With everything that is wrong with it.
    """
    found = examine_job(data)
    problems = [*found.problems]
    if found.job is not None:
        problems += find_problems(found.job, stand_ins=found.stand_ins, await_server=await_server)
    if found.job is None or problems:
        raise RequestError(problems)
    return found.job


def find_problems(
    job: Job, *, stand_ins: Collection[str] = (), await_server: Callable[[], None] = lambda: None
) -> list[str]:
    """Return what is wrong with a job: law, value seen and way out of each problem.

    Args:
        job: To check.
        stand_ins: Keys whose values are not the user's, so that nothing may be said of them.
        await_server: As for `checked_job`.
    """
    problems = design_problems(job, stand_ins=stand_ins)
    if "backbone.name" not in stand_ins:
        problems += _pretrained_problems(job)
    problems += _teacher_problems(job)
    if "data.train" not in stand_ins:
        problems += _data_problems(job)
    problems += _cluster_problems(job)
    problems += check_storage(job.storage, job.s3)
    problems += _tracking_problems(job, await_server)
    # Last, because a process on every node takes seconds.
    return problems or _node_problems(job)


def design_problems(job: Job, *, stand_ins: Collection[str] = ()) -> list[str]:
    """Return what is wrong with a job wherever it runs, as for `find_problems`; nothing is reached."""
    job, problems = without_refused_arguments(job)
    network, found = (None, []) if "backbone.name" in stand_ins else try_network(job)
    problems += found
    if network is not None:
        problems += _layer_problems(job, network) + _floor_problems(job, network)
        problems += _distillation_problems(job, network)
    problems += channel_problems(job) + teacher_problems(job) + recipe_problems(job)
    if job.search is not None and network is not None and "search.space" not in stand_ins:
        found = search_problems(job, job.search, network)
        found += trial_problems(job, job.search, known=problems)
        problems += [f"search: {problem}" for problem in found]
    problems += check_model_name(job.registry.model)
    return problems


def placement_problems(job: Job, room: Capacity) -> list[str]:
    """Return why the workers of a job can never run at the same time on a cluster, if so."""
    training = job.training
    # A trial has all of its workers.
    is_elastic = training.min_workers is not None and job.search is None
    key, needed = ("min_workers", training.fewest_workers) if is_elastic else ("workers", training.workers)
    gpus = 1 if training.use_gpu else 0
    places = room.places(cpus=training.cpus_per_worker, gpus=gpus)
    if needed <= places:
        return []
    size = f"{training.cpus_per_worker} CPUs and {gpus} GPUs"
    return [
        f"training.{key} must fit on the cluster at the same time, got {needed} workers of "
        f"{size} each, which needs {needed * training.cpus_per_worker} CPUs and "
        f"{needed * gpus} GPUs; there is {room}, room for {places}; lower training.{key} or "
        "training.cpus_per_worker, or set RAY_ADDRESS to a larger cluster"
    ]


def _cluster_problems(job: Job) -> list[str]:
    """Return why the workers of a job have no place on the cluster of this command, as it may grow."""
    if (reason := silence()) is not None:
        return [f"{reason}; {WAY_OUT}"]
    problems = placement_problems(job, capacity())
    return problems and placement_problems(job, growth()) and problems


def _pretrained_problems(job: Job) -> list[str]:
    if job.backbone.pretrained is False:
        return []
    description = describe_network(job, num_classes=2)
    return [f"backbone: {problem}" for problem in _source_problems(description, job.backbone.pretrained)]


def _teacher_problems(job: Job) -> list[str]:
    """Return what is wrong with the teacher's weights; that they know the classes is seen with the data."""
    teacher, description = job.distillation.teacher, describe_teacher(job, num_classes=2)
    if teacher is None or description is None:
        return []
    source: Source = True if teacher.weights is True else str(teacher.weights)
    return [f"distillation.teacher: {problem}" for problem in _source_problems(description, source)]


def _source_problems(description: NetworkDescription, source: Source) -> list[str]:
    """Return why a network cannot start from its weights; one that cannot be built was told already."""
    if argument_problems("kwargs", description.kwargs):
        return []
    try:
        check_source(description, source)
    except PretrainedError as error:
        return [str(error)]
    except ValueError:
        return []
    return []


def _layer_problems(job: Job, network: AdaptiveDepthNetwork) -> list[str]:
    if job.training.layer_decay is None:
        return []
    try:
        network.group_matcher()
    except ValueError as error:
        return [f"backbone: {error}"]
    return []


def _floor_problems(job: Job, network: AdaptiveDepthNetwork) -> list[str]:
    """Return which floors of the gate are for no profile; a search may find a split with other letters."""
    problems = []
    for profile in job.registry.gate.floors if job.search is None else ():
        try:
            network.parse_profile(profile)
        except ValueError as error:
            problems.append(f"registry.gate.floors: {error}")
    return problems


def _distillation_problems(job: Job, network: AdaptiveDepthNetwork) -> list[str]:
    """Return which settings of the distillation the network gives nothing to act on."""
    rule = job.distillation
    if network.drops_paths or not rule.is_changed("stochastic_depth"):
        return []
    return [
        "distillation.stochastic_depth has no effect where no block is dropped, got "
        f"{rule.stochastic_depth} for {network.name}, whose drop_path_rate is 0; leave it out, or write "
        "such as backbone.kwargs: {drop_path_rate: 0.1}"
    ]


def _data_problems(job: Job) -> list[str]:
    locations = [job.data.train, *([job.data.validation] if job.data.validation else [])]
    with ThreadPoolExecutor(len(locations)) as pool:  # stores that do not answer are waited for together
        found = pool.map(lambda location: check_location(location, job.s3), locations)
        problems = [problem for location_problems in found for problem in location_problems]
    # An object store's labels are known once it is copied, which is more than a check may take.
    if problems or is_s3(job.data.train):
        return [f"data: {problem}" for problem in problems]
    return _class_problems(job)


def _class_problems(job: Job) -> list[str]:
    rule = BadItemRule(job.data.bad_items, job.data.max_bad_fraction)
    try:
        source = open_source(job.data.train)
    except RequestError as error:
        return [f"data: {problem}" for problem in error.problems]
    problems = [f"data: {problem}" for problem in one_class_problem(source)]
    return problems or class_problems(job, len(classes_to_learn(source, rule)))


def _node_problems(job: Job) -> list[str]:
    """Return what keeps the nodes of the cluster, or this machine, from the job, as the doctor sees them."""
    # On this machine the images were looked at already.
    places = () if is_embedded() else tuple(filter(None, (job.data.train, job.data.validation)))
    nodes = Nodes(Needs(places, job.storage, job.s3))
    failed = [finding for finding in examine(node_checks(nodes)) if finding.verdict == "failed"]
    return [f"{finding.check}: {finding.detail}; {finding.fix}" for finding in failed]


def _tracking_problems(job: Job, await_server: Callable[[], None]) -> list[str]:
    """Ask a tracking server for an answer; a SQLite file is made by the job."""
    uri = tracking_uri(job)
    if sqlite_path(uri) is not None:
        return []
    try:
        await_server()
        connect(uri)
    except RequestError as error:
        return [f"registry: {problem}" for problem in error.problems]
    return []
