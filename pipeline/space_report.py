"""What `skipline space` tells about a search space on a backbone: every parameter, and how many designs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Job, apply_settings, parse_job
from pipeline.errors import RequestError
from pipeline.networks.profiles import StageSize
from pipeline.search.fitting import load_space_for
from pipeline.survey import explain
from pipeline.training.plan import shape_of, stage_sizes
from search_spaces import SearchSpace
from search_spaces.space import blocks_of


@dataclass(frozen=True)
class SpaceReport:
    """What a search draws: as text cells for a terminal, one row a parameter, and as plain values.

    Attributes:
        summary: Of what on what.
        columns: Headings of `rows`.
        rows: Text.
        facts: The same for machines; `num_designs` is null where a range holds real numbers.
    """

    summary: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    facts: Mapping[str, Any]


def inspect_space(name_or_path: str, *, backbone: str, settings: Sequence[str]) -> SpaceReport:
    """Return what a search in a space draws for a backbone.

    Args:
        name_or_path: A YAML file, or the name of a shipped space.
        backbone: A timm model.
        settings: Of the job that would be searched, such as `training.optimizer=adamw`.

    Raises:
        RequestError: With everything that is wrong with the space, or that does not fit.
    """
    job = _job_of(name_or_path, backbone, settings)
    space = load_space_for(job, name_or_path)
    try:
        stages = stage_sizes(shape_of(job))
    except ValueError as error:
        raise RequestError(explain(error)) from error
    if problems := space.check(job, stages):
        raise RequestError(problems)
    parameters = space.parameters(stages)
    point = _point(space, job, stages)
    num_designs = space.num_designs(stages)
    return SpaceReport(
        summary=(
            f"{name_or_path} on {backbone}, stages of {blocks_of(stages)} blocks: "
            f"{len(parameters)} parameters, {_count(num_designs)} designs"
        ),
        columns=("parameter", "range", "values", "trial 1"),
        rows=[
            [name, f"{range_}{_scale(range_)}", _count(range_.num_values()), _short(point.get(name, ""))]
            for name, range_ in parameters.items()
        ],
        facts={
            "space": name_or_path,
            "backbone": backbone,
            "blocks": blocks_of(stages),
            "num_designs": None if math.isinf(num_designs) else num_designs,
            "parameters": {name: range_.model_dump(mode="json") for name, range_ in parameters.items()},
            "first_trial": dict(point),
        },
    )


def _job_of(space: str, backbone: str, settings: Sequence[str]) -> Job:
    """Return a job with default settings that searches a space; where it starts is its own matter."""
    data: dict[str, Any] = {
        "name": "job",
        "data": {"train": "builtin:digits"},
        "backbone": {"name": backbone},
        "training": {"epochs": 10},
        "search": {"space": space, "epochs": 1, "trials": 1, "paper_first": False},
        "registry": {"model": "model"},
    }
    apply_settings(data, settings)
    return parse_job(data)


def _point(space: SearchSpace, job: Job, stages: Sequence[StageSize]) -> Mapping[str, Any]:
    """Return the job's own settings by parameter; none where they lie outside the space."""
    try:
        return space.point(space.start_design(job, stages), stages)
    except ValueError:
        return {}


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scale(range_: object) -> str:
    return " (log)" if getattr(range_, "log", False) else ""


def _count(number: float) -> str:
    return "∞" if math.isinf(number) else f"{number:,.0f}"
