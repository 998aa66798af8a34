"""The runs of a job: one parent, one nested run a trial.

Only the driver process writes them. Every call finds what an earlier, killed attempt left behind and goes on
there, so that the same command given again adds nothing twice.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from . import tags as names
from .authorship import author_tags, note_tags, owns_note
from .failures import tracking_failures
from .metric_names import shown_metrics

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_PARAMS = 100  # MLflow's own limit for one request
_MAX_METRICS = 100  # above it MLflow 3.17 fails to recognise a model's metrics that it has already
_PAGE = 1000
_SHORT_KEY = 6  # as much as people compare


class JobRun:
    """The parent run of a job and its nested runs; open one with `JobRun.open`.

    Attributes:
        client: The store.
        experiment_id: The experiment that holds the runs.
        run_id: The parent run.
        start_time_ms: When the job was started first, milliseconds since 1970.
        ended_trials: Whose nested runs had come to their end before this object was made.
    """

    def __init__(self, client: MlflowClient, parent: Run) -> None:
        self.client = client
        self.experiment_id: str = parent.info.experiment_id
        self.run_id: str = parent.info.run_id
        self.start_time_ms: int = parent.info.start_time
        nested = {
            run.data.tags[names.TRIAL_ID]: run
            for run in self._nested_runs()
            if names.TRIAL_ID in run.data.tags
        }
        self._trials: dict[str, str] = {trial_id: run.info.run_id for trial_id, run in nested.items()}
        self.ended_trials = frozenset(
            trial_id for trial_id, run in nested.items() if run.info.status in ("FINISHED", "FAILED")
        )

    @classmethod
    @tracking_failures("open the job's run")
    def open(
        cls,
        client: MlflowClient,
        experiment_id: str,
        *,
        name: str,
        key: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        description: str = "",
    ) -> Self:
        """Find the job's parent run by its key, or create it; it is RUNNING afterwards.

        MLflow never changes a parameter: those that the run has already keep their values.

        Args:
            client: The store.
            experiment_id: The experiment that holds the runs.
            name: What the run is called; the second of a name gets a part of its key behind it.
            key: What makes two commands the same job; letters, digits, `_`, `.`, `:` and `-`.
            params: Nested mappings become dotted names.
            tags: Written anew at every call.
            description: Markdown, for a new run.

        Raises:
            JobError: If the store fails.
            ValueError: If the key has other characters.
        """
        _check_key(key)
        parent = find_job(client, experiment_id, key) or client.create_run(
            experiment_id,
            run_name=_distinct_name(client, experiment_id, name, key=key),
            tags={**author_tags(), **note_tags(description), **tags, names.JOB_KEY: key},
        )
        _reopen(client, parent)
        _log_params(client, parent, params)
        for tag, value in tags.items():
            client.set_tag(parent.info.run_id, tag, value)
        return cls(client, parent)

    @tracking_failures("open a trial's run")
    def trial(
        self,
        trial_id: str,
        params: Mapping[str, Any],
        *,
        name: str,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Find a trial's nested run, or create it.

        A finished one stays finished; any other is RUNNING afterwards.

        Args:
            trial_id: Its name in the search.
            params: Nested mappings become dotted names.
            name: What a new run is called.
            tags: Of a new run.

        Returns:
            The run's id.
        """
        if trial_id in self._trials:
            run = self.client.get_run(self._trials[trial_id])
        else:
            own = {names.PARENT_RUN: self.run_id, names.TRIAL_ID: trial_id}
            # A server that went away may have made it and not said so.
            run = self._find_trial(trial_id) or self.client.create_run(
                self.experiment_id, run_name=name, tags={**author_tags(), **tags, **own}
            )
            self._trials[trial_id] = run.info.run_id
        if run.info.status != "FINISHED":
            _reopen(self.client, run)
        _log_params(self.client, run, params)
        run_id: str = run.info.run_id
        return run_id

    @tracking_failures("log an epoch")
    def log_epoch(self, run_id: str, metrics: Mapping[str, float], *, step: int, timestamp_ms: int) -> None:
        """Log one epoch's metrics; the same values for the same step and time are kept once.

        Args:
            run_id: The parent's or a trial's run.
            metrics: Values by their names in the job's folder.
            step: The epoch.
            timestamp_ms: When the epoch ended, milliseconds since 1970; the same at every attempt.
        """
        entries = [
            Metric(name, float(value), timestamp_ms, step) for name, value in shown_metrics(metrics).items()
        ]
        self.log_metrics(run_id, entries)

    def log_trial_epoch(
        self, trial_id: str, metrics: Mapping[str, float], *, step: int, timestamp_ms: int
    ) -> None:
        """Log one epoch of a trial, as `log_epoch` does; raises ValueError if `trial` was never called."""
        self.log_epoch(self._run_of(trial_id), metrics, step=step, timestamp_ms=timestamp_ms)

    def log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        """Log metrics as they are, in as many requests as MLflow's limits ask for."""
        for start in range(0, len(metrics), _MAX_METRICS):
            self.client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS])

    @tracking_failures("end a trial's run")
    def end_trial(
        self,
        trial_id: str,
        status: EndStatus,
        *,
        tags: Mapping[str, str] = MappingProxyType({}),
        description: str = "",
    ) -> None:
        """End a trial's run; one that has this status already stays as it is.

        Args:
            trial_id: Its name in the search.
            status: What MLflow calls its end.
            tags: What else there is to say of its end.
            description: Markdown; somebody else's stays.

        Raises:
            ValueError: If `trial` was never called for it.
        """
        run = self.client.get_run(self._run_of(trial_id))
        if run.info.status != status:
            self._set_tags(run, {**tags, **(note_tags(description) if owns_note(run.data.tags) else {})})
            self.client.set_terminated(run.info.run_id, status)

    @tracking_failures("describe the job's run")
    def describe(self, description: str, tags: Mapping[str, str]) -> None:
        """Write the parent run's description, unless somebody else has written one, and its tags.

        Args:
            description: Markdown.
            tags: Written in any case.
        """
        run = self.client.get_run(self.run_id)
        self._set_tags(run, {**tags, **(note_tags(description) if owns_note(run.data.tags) else {})})

    @tracking_failures("end the job's run")
    def close(self, status: EndStatus) -> None:
        """End the parent run; nested runs that are still open are KILLED: nobody goes on with them."""
        for run in list(self._nested_runs()):
            if run.info.status in ("RUNNING", "SCHEDULED"):
                self.client.set_terminated(run.info.run_id, "KILLED")
        self.client.set_terminated(self.run_id, status)

    @tracking_failures("store a text")
    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text as a file of the parent run, over one of the same name."""
        self.client.log_text(self.run_id, text, artifact_file)

    @tracking_failures("store a table")
    def log_table(self, columns: Mapping[str, list[Any]], artifact_file: str) -> None:
        """Store a table that MLflow's pages show and its `load_table` reads, over one of the same name.

        MLflow's own `log_table` appends to what is there, so a job told of twice would hold all rows twice.

        Args:
            columns: Of equal length, by name.
            artifact_file: Where; ends in `.json`.
        """
        rows = list(zip(*columns.values(), strict=True))
        self.log_text(json.dumps({"columns": list(columns), "data": rows}), artifact_file)
        known = self.client.get_run(self.run_id).data.tags.get(names.LOGGED_ARTIFACTS, "[]")
        listed, entry = json.loads(known), {"path": artifact_file, "type": "table"}
        if entry not in listed:
            self.client.set_tag(self.run_id, names.LOGGED_ARTIFACTS, json.dumps([*listed, entry]))

    @tracking_failures("store a file")
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file with the parent run, in a folder of its artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        """Set tags at once, so that a kill leaves all of them or none."""
        if tags:
            self.client.log_batch(run.info.run_id, tags=[RunTag(name, text) for name, text in tags.items()])

    def _run_of(self, trial_id: str) -> str:
        if trial_id not in self._trials:
            raise ValueError(
                f"a trial must be opened before it is told about, {trial_id!r} was not; call `trial` first"
            )
        return self._trials[trial_id]

    def _find_trial(self, trial_id: str) -> Run | None:
        of_trial = f"tags.`{names.PARENT_RUN}` = '{self.run_id}' and tags.`{names.TRIAL_ID}` = '{trial_id}'"
        found = self.client.search_runs([self.experiment_id], of_trial, max_results=1)
        return found[0] if found else None

    def _nested_runs(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`{names.PARENT_RUN}` = '{self.run_id}'",
                max_results=_PAGE,
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return


def find_job(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    """Return a job's parent run, None if there is none; raises MlflowException if the store fails."""
    found = client.search_runs(
        [experiment_id],
        f"tags.`{names.JOB_KEY}` = '{key}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return found[0] if found else None


@tracking_failures("look up the job's run")
def find_job_run(client: MlflowClient, experiment: str, key: str) -> Run | None:
    """Return a job's parent run, None if there is none.

    Args:
        client: The store.
        experiment: Name of the experiment that holds the runs.
        key: The job's key.

    Raises:
        JobError: If the store fails.
    """
    found = client.get_experiment_by_name(experiment)
    return None if found is None else find_job(client, found.experiment_id, key)


def is_closed(client: MlflowClient, experiment: str, key: str) -> bool:
    """Return whether a job's parent run has come to a good end; arguments as for `find_job_run`."""
    run = find_job_run(client, experiment, key)
    return run is not None and run.info.status == "FINISHED"


def flatten_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return nested parameters as text by dotted name; what is not text or a number is written as JSON."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}.{inner}": text for inner, text in flatten_params(value).items()}
        elif isinstance(value, str | int | float):
            flat[name] = str(value)
        else:
            flat[name] = json.dumps(value, default=str)
    return flat


def _log_params(client: MlflowClient, run: Run, params: Mapping[str, Any]) -> None:
    flat = flatten_params(params)
    missing = [Param(name, text) for name, text in flat.items() if name not in run.data.params]
    for start in range(0, len(missing), _MAX_PARAMS):
        client.log_batch(run.info.run_id, params=missing[start : start + _MAX_PARAMS])


def _distinct_name(client: MlflowClient, experiment_id: str, name: str, *, key: str) -> str:
    """Return what a job's new run is called: as the job, or more where that is another job's run already.

    A job with other settings, or in another folder, may have the same name.
    """
    others = client.search_runs([experiment_id], f"attributes.run_name = '{name}'", max_results=1)
    return f"{name} · {key[:_SHORT_KEY]}" if others else name


def _reopen(client: MlflowClient, run: Run) -> None:
    if run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")


def _check_key(key: str) -> None:
    if not re.fullmatch(r"[\w.:-]{1,250}", key):
        raise ValueError(
            f"a job's key has 1 to 250 letters, digits, '_', '.', ':' or '-', got {key!r}; use a hash in hex"
        )
