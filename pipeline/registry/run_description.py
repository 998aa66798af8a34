"""The text of a job's run in MLflow: what the job is, what came out, and where to go from there."""

from dataclasses import dataclass

from pipeline.config import Job
from pipeline.evaluation.table import ProfileTable

from .description import loading_code, summarize
from .profile_curves import TABLE_FILE
from .versions import RegisteredVersion


@dataclass(frozen=True)
class Conclusion:
    """What a job came to.

    Attributes:
        version: What it registered.
        table: Its profile table.
        split: The network's, found by the search or as the job had it; mandatory blocks a stage.
        best_trial: What the run of the search's winner is called; None without a search.
        report: The page among the run's files.
    """

    version: RegisteredVersion
    table: ProfileTable
    split: tuple[int, ...]
    best_trial: str | None
    report: str


def describe_job(job: Job) -> str:
    """Return what a job is, for its run from the start, as Markdown."""
    first = (
        f"**{job.backbone.name} becomes one network with many depths; the job has not ended yet.** The same "
        "command goes on where it was, after any end."
    )
    return f"{first}\n\n{_facts(job)}"


def describe_conclusion(job: Job, end: Conclusion, *, experiment_id: str, run_id: str) -> str:
    """Return what a job was and what came of it, as Markdown.

    MLflow shows two lines of it until it is asked for more. Links hold in MLflow's own pages, wherever their
    server is.

    Args:
        job: Its settings.
        end: What it came to.
        experiment_id: Which holds the run.
        run_id: The job's run.
    """
    version, files = end.version, f"#/experiments/{experiment_id}/runs/{run_id}/artifacts"
    links = (
        f"[{version.name}, version {version.version}](#/models/{version.name}/versions/{version.version}) · "
        f"[report]({files}/{end.report}) · [all {len(end.table.results)} depths]({files}/{TABLE_FILE})"
    )
    network = f"- network: split {','.join(map(str, end.split))}"
    best = f", of {end.best_trial}" if end.best_trial else ""
    return "\n\n".join(
        [
            f"**{summarize(end.table)}** on {end.table.images}",
            links,
            f"{_facts(job)}\n{network}{best}",
            _next_steps(version.uri),
        ]
    )


def _next_steps(uri: str) -> str:
    return f"""\
```python
{loading_code(uri)}
model.predict(images, params={{"profile": "base"}})
```

```bash
skipline profiles {uri}  # its table, here
skipline serve {uri}     # over HTTP
skipline promote {uri}   # champion, if its gate lets it
```"""


def _facts(job: Job) -> str:
    recipe, search = job.training, job.search
    split = job.split if job.split == "paper" else ",".join(map(str, job.split))
    facts = [
        f"backbone: {job.backbone.name}, split {split}",
        f"data: {job.data.train}, {job.data.image_size} pixels",
        f"training: {recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer}, seed {job.seed}",
    ]
    if search is not None:
        facts.append(
            f"search: {search.trials} trials of {search.epochs} epochs at most in {search.space}, by "
            f"{search.objective}; see the nested runs"
        )
    return "\n".join(f"- {fact}" for fact in facts)
