"""One step of a job, on shapes and on a tiny batch, before anything starts.

Whatever changes what goes into or comes out of the network, the optimiser, the schedule or the transform is
tried as the workers will run it.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress

import timm

from pipeline.config import Job
from pipeline.errors import RequestError
from pipeline.search_config import SearchConfig
from search_spaces import load_space
from search_spaces.keys import BACKBONE, SPLIT

from .no_effect import settings_without_effect
from .shapes import try_network
from .updates import update_problems
from .variation import variation_problems


def recipe_problems(job: Job) -> list[str]:
    """Return what is wrong with how a job trains, whatever its network."""
    problems = [*settings_without_effect(job), *mixing_problems(job), *update_problems(job.training)]
    if timm.is_model(job.backbone.name):
        problems += variation_problems(job)
    return problems


def mixing_problems(job: Job) -> list[str]:
    """Return why the images of a batch cannot be mixed in pairs, if so."""
    images = job.training.micro_batch_size // job.training.workers
    if not job.augmentation.mixes or images % 2 == 0:
        return []
    return [
        f"augmentation.mixup and cutmix need an even number of images a worker, got {images} "
        "(training.batch_size over accumulation_steps and workers); change training.batch_size"
    ]


def trial_problems(job: Job, search: SearchConfig, *, known: Collection[str]) -> list[str]:
    """Return what is wrong with what the trials of a search may be given: images, and every range's ends.

    Args:
        job: To be searched.
        search: Its search section.
        known: What is wrong with the job itself, which is not said again.
    """
    told: dict[str, str] = {}
    for where, drawn in _drawn(job, search):
        for problem in _problems_of(drawn, job):
            told.setdefault(problem, f"{where} ({problem})")
    return [text for problem, text in told.items() if problem not in known]


def _drawn(job: Job, search: SearchConfig) -> Iterator[tuple[str, Job]]:
    """Yield jobs as trials may have them, each with its law; what the job file refuses is told elsewhere."""
    if search.image_size is not None:
        law = f"search.image_size must suit the network, {search.image_size} does not"
        yield law, job.override({"data.image_size": search.image_size})
    try:
        space = load_space(search.space)
    except RequestError:
        return
    for key, design in space.corners():
        law = (
            f"space {space.name!r}: {key}: every value of a range must fit the job, {design[key]!r} does not"
        )
        with suppress(RequestError):
            yield law, job.override(design | ({SPLIT: "paper"} if BACKBONE in design else {}))


def _problems_of(drawn: Job, job: Job) -> list[str]:
    """Return what is wrong with a trial's job, where it differs from the job itself."""
    problems = [*settings_without_effect(drawn), *mixing_problems(drawn)]
    if drawn.training != job.training:
        problems += update_problems(drawn.training)
    if drawn.augmentation != job.augmentation:
        problems += variation_problems(drawn)
    if (drawn.backbone, drawn.data) != (job.backbone, job.data):
        network, found = try_network(drawn)
        # Of one that cannot be built, the search's own check tells.
        problems += [] if network is None else found
    return problems
