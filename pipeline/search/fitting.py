"""Whether a search fits its job: the space on the backbone, the budget, the search that it begins with.

Nothing is trained for it; networks are built without weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.cost import BlockLatencies
from pipeline.networks.profiles import StageSize
from pipeline.search_config import SearchConfig
from pipeline.survey import explain
from pipeline.training.plan import NOTHING_MEASURED, objective_of, shape_of, stage_sizes
from search_spaces import SearchSpace, load_space
from search_spaces.keys import BACKBONE, SPLIT

from .former import former_trials

MAX_SPLITS = 1000
"""That a one-shot network is scored at; chosen: each takes as long as an evaluation of all profiles."""


def search_problems(job: Job, search: SearchConfig, network: AdaptiveDepthNetwork) -> list[str]:
    """Return everything that keeps a job's search from starting.

    Args:
        job: With its own settings.
        search: Its search section.
        network: Of the job, without weights.
    """
    stages = stage_sizes(network)
    try:
        space = load_space_for(job, search.space)
        problems = space.check(job, stages) or budget_problems(job, search, space, stages)
        problems += _image_problems(job, search) + _warmup_problems(job, search, space, stages)
        if not problems:
            former_trials(job, search, space, stages)
    except RequestError as error:
        return list(error.problems)
    return problems


def _warmup_problems(
    job: Job, search: SearchConfig, space: SearchSpace, stages: Sequence[StageSize]
) -> list[str]:
    """Return why splits cannot be compared by a one-shot network, if so."""
    if search.warmup is None:
        return []
    problems = []
    if SPLIT not in space.ranges or space.backbones:
        problems.append(
            f"search.warmup: one_shot compares splits of one backbone, space {space.name!r} does not draw "
            "split, or draws backbones; leave warmup out, or take a space such as resnet or splits_only"
        )
    num_splits = math.prod(len(stage.skippable_points) for stage in stages)
    if num_splits > MAX_SPLITS:
        problems.append(
            f"search.warmup: one_shot scores every split, at most {MAX_SPLITS:,}, {job.backbone.name} has "
            f"{num_splits:,}; leave it out"
        )
    if not job.evaluation.calibration_images:
        problems.append(
            "search.warmup: one_shot needs norm statistics of every split, got "
            "evaluation.calibration_images: 0; leave one of them out"
        )
    return problems


def _image_problems(job: Job, search: SearchConfig) -> list[str]:
    """Return why a trial's images do not fit the backbone, if so."""
    if search.image_size is None:
        return []
    try:
        shape_of(job.override({"data.image_size": search.image_size}))
    except ValueError as error:
        return [f"search.image_size: {explain(error)}"]
    return []


def budget_problems(
    job: Job,
    search: SearchConfig,
    space: SearchSpace,
    stages: Sequence[StageSize],
    latencies: Mapping[str, BlockLatencies] = NOTHING_MEASURED,
) -> list[str]:
    """Return a message if no design of a space can meet the budget, or the first one does not."""
    excess = []
    for name, its_stages in (space.variants or {job.backbone.name: stages}).items():
        smallest = {SPLIT: [stage.min_mandatory for stage in its_stages]} if SPLIT in space.ranges else {}
        excess.append(dropped_because(job, {BACKBONE: name, **smallest}, latencies))
    if all(excess):
        return [
            f"a budget must be within reach, of the smallest design {excess[0]}; raise it, or shrink "
            "the backbone"
        ]
    own = dropped_because(job, {}, latencies)
    if own is None or not search.paper_first:
        return []
    return [
        f"the search starts from the job's own design, {own}; raise the budget, lower the split, or write "
        "search.paper_first: false"
    ]


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
            variants[name] = stage_sizes(shape_of(job.override({BACKBONE: name, SPLIT: "paper"})))
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


def dropped_because(
    job: Job, design: Mapping[str, Any], latencies: Mapping[str, BlockLatencies] = NOTHING_MEASURED
) -> str | None:
    """Return why no profile of a design meets the budget of a search, None if one does; trains nothing.

    Args:
        job: Whose search it is.
        design: What of the job is replaced.
        latencies: By backbone; a limit in milliseconds counts where there are some.
    """
    designed = job.override(design)
    objective = objective_of(designed, latencies)
    if objective.name != "budget":
        return None
    network = shape_of(designed)
    _, cheapest = network.extremes
    excess = objective.excess(network, cheapest)
    return f"its cheapest depth needs {excess}" if excess else None
