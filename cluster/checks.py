"""What is wrong with a job that is to run elsewhere, as far as it can be seen from here.

The cluster looks at the rest itself: the job's command starts with all checks of `skipline run`.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pipeline.config import Job
from pipeline.preflight import design_problems, placement_problems
from pipeline.storage.object_store import is_s3

from .package import Package
from .runtime import Capacity
from .submission import Demand

OUR_PACKAGES = ("pipeline", "cluster", "search_spaces")


def submission_problems(
    job: Job,
    package: Package,
    room: Capacity,
    *,
    grows: bool,
    demand: Demand,
    stand_ins: Collection[str] = (),
) -> list[str]:
    """Return what keeps a job from running on a cluster: law, value seen and way out of each problem.

    Args:
        job: To be submitted.
        package: What it takes along.
        room: What the cluster has now.
        grows: Whether it adds nodes; then nothing can be said of what does not fit now.
        demand: Of the job's own command.
        stand_ins: Keys whose values are not the user's.
    """
    problems = [*design_problems(job, stand_ins=stand_ins), *_place_problems(job, package)]
    problems += _module_problems(package)
    if not grows:
        problems += placement_problems(job, room)
        problems += _demand_problems(demand, room)
    return problems


def pinned_requirements(path: Path) -> tuple[list[str], list[str]]:
    """Read a requirements file; returns its lines and what is wrong with them."""
    if not path.is_file():
        return [], [f"--requirements must be a file, there is none at {path}; `pip freeze` writes one"]
    lines = [line.partition(" #")[0].strip() for line in path.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    loose = [line for line in wanted if not _is_pinned(line)]
    problems = [
        f"requirements must be pinned, so that every node and every later run has the same, {path} has "
        f"{', '.join(map(repr, loose))}; write NAME==VERSION, as `pip freeze` does"
    ]
    return wanted, problems if loose else []


def _is_pinned(line: str) -> bool:
    try:
        specifiers = list(Requirement(line).specifier)
    except InvalidRequirement:
        return False
    return (
        len(specifiers) == 1 and specifiers[0].operator in ("==", "===") and "*" not in specifiers[0].version
    )


def _place_problems(job: Job, package: Package) -> Iterator[str]:
    if not is_s3(job.storage) and not Path(job.storage).is_absolute():
        yield (
            f"storage of a submitted job must be one that all nodes see, got {job.storage!r}, which would be "
            "in a copy that is deleted; write s3://BUCKET/PREFIX or the absolute path of a shared folder"
        )
    for key, place in _local_files(job).items():
        if not Path(place).is_absolute() and not package.contains(Path(place)):
            yield (
                f"{key} of a submitted job must be sent with it, got {place!r}, which is not among the "
                f"{len(package.files)} files of {package.folder}; take it out of .gitignore, or write s3:// "
                "or an absolute path that all nodes see"
            )


def _local_files(job: Job) -> Mapping[str, str]:
    """Return the places in a job's file that may be paths."""
    teacher = job.distillation.teacher
    places = {
        "data.train": job.data.train,
        "data.validation": job.data.validation,
        "backbone.pretrained": job.backbone.pretrained,
        "distillation.teacher.weights": teacher.weights if teacher else None,
        "search.space": job.search.space if job.search and Path(job.search.space).suffix else None,
    }
    return {
        key: place
        for key, place in places.items()
        if isinstance(place, str) and not is_s3(place) and not place.startswith("builtin:")
    }


def _module_problems(package: Package) -> list[str]:
    """Return which modules of the folder would be imported in place of Skipline's."""
    if any(file.path == Path("pipeline/steps.py") for file in package.files):
        return []  # a checkout of Skipline: it is meant to
    names = {file.path.parts[0].removesuffix(".py") for file in package.files if file.path.suffix == ".py"}
    foreign = sorted(names & set(OUR_PACKAGES))
    if not foreign:
        return []
    return [
        f"a folder that is sent must have no modules named {', '.join(OUR_PACKAGES)}, which would come "
        f"before Skipline's own, {package.folder} has {', '.join(foreign)}; name them in .rayignore or "
        "submit from another folder (--folder)"
    ]


def _demand_problems(demand: Demand, room: Capacity) -> list[str]:
    """Return why the command itself would wait for ever; Ray cannot even stop a job that does."""
    if any(cpus >= demand.cpus for cpus, _ in room.nodes):
        return []
    return [
        f"--driver-cpus must fit on one node, got {demand.cpus:g}; there is {room}; lower it, or leave it "
        "out: the command itself computes little"
    ]
