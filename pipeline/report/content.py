"""What a report is about, gathered from a job's folder; needs neither Ray nor MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.baselines.result import Baselines
from pipeline.config import Job
from pipeline.data.data_plan import DataPlan
from pipeline.errors import RequestError
from pipeline.evaluation.analysis import Analysis
from pipeline.evaluation.table import ProfileTable
from pipeline.folder import JobFolder
from pipeline.search.result import SearchResult
from pipeline.search.verdict import describe_verdict
from pipeline.training.epochs import History
from pipeline.training.plan import load_data_plan, shape_of
from pipeline.training.result import TrainingResult

from .provenance import Provenance


@dataclass(frozen=True)
class StageDrawing:
    """A stage as it is drawn.

    Attributes:
        name: Its module in the backbone.
        num_blocks: All of them.
        num_mandatory: Those that always run; the others follow the stage's letter.
        letter: Number of its letter in a profile, from 0; None if it cannot be skipped.
    """

    name: str
    num_blocks: int
    num_mandatory: int
    letter: int | None


@dataclass(frozen=True)
class Rival:
    """Another registered version, to compare with.

    Attributes:
        uri: `models:/NAME/VERSION`.
        table: Its profile table.
    """

    uri: str
    table: ProfileTable


@dataclass(frozen=True)
class Cost:
    """What a job took.

    Attributes:
        training_worker_h: Hours in which workers trained the network, added up over workers.
        search_worker_h: Likewise of all trials.
        training_epochs: Of the network.
        search_epochs: Of all trials.
        stored_bytes: What lies in the job's folder.
        deleted_bytes: Of trials' checkpoints, deleted when they had ended.
    """

    training_worker_h: float
    search_worker_h: float
    training_epochs: int
    search_epochs: int
    stored_bytes: int
    deleted_bytes: int


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        job: With the settings that were trained: those of the best trial, where there was a search.
        job_file: The settings as they were given, in YAML.
        data: Which images trained and validated.
        table: What every profile reaches and costs.
        stages: Of the network.
        history: Of the training.
        cost: Of the job.
        analysis: What else is known of the network; None in jobs of earlier releases.
        search: How it ended; None without one.
        verdict: On the search, in sentences.
        baselines: Networks of single depths that were trained alone; None if there are none.
        provenance: None in jobs of earlier releases.
        version: `models:/NAME/VERSION` that the job registered; None before it did.
        champion: The version that consumers take; None if there is none, or it is this one.
    """

    job: Job
    job_file: str
    data: DataPlan
    table: ProfileTable
    stages: tuple[StageDrawing, ...]
    history: History
    cost: Cost
    analysis: Analysis | None
    search: SearchResult | None
    verdict: Sequence[str]
    baselines: Baselines | None
    provenance: Provenance | None
    version: str | None = None
    champion: Rival | None = None


def gather(
    job: Job, folder: JobFolder, *, version: str | None = None, champion: Rival | None = None
) -> ReportContent:
    """Read a report's content from the folder of a job whose profiles are measured.

    Args:
        job: Its settings as they were given.
        folder: Where its steps left their results.
        version: `models:/NAME/VERSION` that it registered.
        champion: To compare with.

    Raises:
        RequestError: If the profiles are not measured yet.
    """
    require_measured(job, folder)
    search = (
        SearchResult.from_json(folder.search_result.read_text()) if folder.search_result.exists() else None
    )
    trained = job.override(search.best.values) if search else job
    history = TrainingResult.from_json(folder.training_result.read_text(), folder.training).history
    return ReportContent(
        job=trained,
        job_file=folder.job_file.read_text(),
        data=load_data_plan(folder.data_plan),
        table=ProfileTable.from_json(folder.profile_table.read_text()),
        stages=draw_stages(trained),
        history=history,
        cost=count_cost(trained, folder, history, search),
        analysis=Analysis.from_json(folder.analysis.read_text()) if folder.analysis.exists() else None,
        search=search,
        verdict=describe_verdict(job, search) if search else (),
        baselines=(
            Baselines.from_json(folder.baselines_result.read_text())
            if folder.baselines_result.exists()
            else None
        ),
        provenance=(
            Provenance.from_json(folder.provenance.read_text()) if folder.provenance.exists() else None
        ),
        version=version,
        champion=champion,
    )


def require_measured(job: Job, folder: JobFolder) -> None:
    """Raise RequestError if there is nothing yet that a report could be about."""
    if not folder.profile_table.exists():
        raise RequestError(
            f"a report needs measured profiles, job {job.name!r} in {folder.root} has none yet; "
            "run `skipline evaluate` with the same job"
        )


def draw_stages(job: Job) -> tuple[StageDrawing, ...]:
    """Return how the stages of a job's network are drawn."""
    network = shape_of(job)
    stages, letter = [], 0
    for layout, mandatory in zip(network.layouts, network.split, strict=True):
        is_skippable = mandatory < layout.size.blocks
        stages.append(
            StageDrawing(layout.name, layout.size.blocks, mandatory, letter if is_skippable else None)
        )
        letter += is_skippable
    return tuple(stages)


def count_cost(job: Job, folder: JobFolder, history: History, search: SearchResult | None) -> Cost:
    """Return what a job took."""
    trials = (*search.trials, *search.repeats) if search else ()
    worker_h = job.training.workers / 3600
    return Cost(
        training_worker_h=sum(report.metrics["epoch_s"] for report in history) * worker_h,
        search_worker_h=sum(trial.train_s for trial in trials) * worker_h,
        training_epochs=len(history),
        search_epochs=sum(trial.epochs for trial in trials),
        stored_bytes=folder.root.num_bytes(),
        deleted_bytes=sum(trial.deleted_bytes for trial in trials),
    )
