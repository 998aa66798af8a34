"""What another job's search has learnt, as the beginning of this one's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.folder import JobFolder
from pipeline.networks.profiles import StageSize
from pipeline.search_config import SearchConfig
from pipeline.storage import StoragePath
from search_spaces import SearchSpace

from .result import SearchResult

COMPARED = (
    "objective",
    "cost",
    "max_gmacs",
    "max_mparams",
    "max_ms",
    "epochs",
    "data_fraction",
    "image_size",
)
"""Settings of a search that scores depend on, beside data and backbone."""


@dataclass(frozen=True)
class FormerTrial:
    """A trial of another search.

    Attributes:
        name: `JOB/TRIAL_ID`.
        point: Its design.
        scores: The best so far after every epoch.
    """

    name: str
    point: Mapping[str, Any]
    scores: Sequence[float]


def former_trials(
    job: Job, search: SearchConfig, space: SearchSpace, stages: Sequence[StageSize]
) -> list[FormerTrial]:
    """Return the trials of the search that a job warm-starts from, those that its own space can draw.

    Raises:
        RequestError: If there is no such search, or its scores cannot be compared.
    """
    if search.warm_start is None:
        return []
    folder = JobFolder(StoragePath.parse(search.warm_start, job.s3))
    if not folder.search_result.exists():
        raise RequestError(
            "search.warm_start must be the folder of a job whose search is over, got "
            f"{search.warm_start!r}, which has no search/result.json; write STORAGE/NAME of that job"
        )
    former = Job.model_validate(yaml.safe_load(folder.job_file.read_text()))
    if different := _differences(former, job):
        raise RequestError(
            f"search.warm_start needs scores that can be compared, {former.name!r} has another "
            f"{', '.join(different)}; give its best designs as search.start_points instead"
        )
    found = []
    for trial in SearchResult.from_json(folder.search_result.read_text()).trials:
        # What the former search left alone is as in its job.
        design = space.start_design(former.override(trial.values), stages)
        try:
            point = space.point(design, stages)
        except ValueError:
            continue
        scores = trial.scores or (trial.score,)
        found.append(FormerTrial(f"{former.name}/{trial.trial_id}", point, scores))
    return found


def _differences(former: Job, job: Job) -> list[str]:
    sections = [name for name in ("data", "backbone") if getattr(former, name) != getattr(job, name)]
    searches = former.search, job.search
    return sections + [
        f"search.{name}"
        for name in COMPARED
        if len({getattr(search, name) for search in searches if search is not None}) > 1
    ]
