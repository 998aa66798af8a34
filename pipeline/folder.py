"""The folder of a job: what each step leaves there, written so that a crash leaves the old or the new.

A step whose result file exists is done; the same command run again goes on with the next one.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.config import Job
from pipeline.data.cache import cache_folder
from pipeline.errors import RequestError
from pipeline.storage import StoragePath
from pipeline.storage.lock import HeldError, locked

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobFolder:
    """Where one job's files are, all below `root`."""

    root: StoragePath

    @classmethod
    def of(cls, job: Job) -> "JobFolder":
        """Return the folder of a job; raises ValueError if its storage is not written as one."""
        return cls(StoragePath.parse(job.storage, job.s3) / job.name)

    @property
    def job_file(self) -> StoragePath:
        """The settings that the job was started with."""
        return self.root / "job.yaml"

    @property
    def log_file(self) -> Path:
        """What Ray, MLflow and the steps have to say; on this machine, as no object can be appended to."""
        folder = self.root.local_path if self.root.is_local else cache_folder("jobs") / self.root.path
        return folder / "skipline.log"

    @property
    def data_plan(self) -> StoragePath:
        """Which images train and validate."""
        return self.root / "data.npz"

    @property
    def initial_weights(self) -> StoragePath:
        """What all trainings of a pretrained job start from."""
        return self.root / "initial.safetensors"

    @property
    def teacher_weights(self) -> StoragePath:
        """Weights of the network that teaches the super-net."""
        return self.root / "teacher.safetensors"

    @property
    def search(self) -> StoragePath:
        """Ray Tune's experiment and the trials' runs."""
        return self.root / "search"

    @property
    def search_result(self) -> StoragePath:
        """All trials and the best of them."""
        return self.search / "result.json"

    @property
    def training(self) -> StoragePath:
        """The run of the training, with its checkpoints."""
        return self.root / "training"

    @property
    def training_result(self) -> StoragePath:
        """The best checkpoint and the history of the training."""
        return self.root / "training.json"

    @property
    def profile_table(self) -> StoragePath:
        """What every depth profile reaches and costs."""
        return self.root / "profiles.json"

    @property
    def analysis(self) -> StoragePath:
        """What else the evaluation found."""
        return self.root / "analysis.json"

    @property
    def report(self) -> StoragePath:
        """The page that shows all of it."""
        return self.root / "report.html"

    @property
    def provenance(self) -> StoragePath:
        """What the job was started by and with."""
        return self.root / "provenance.json"

    @property
    def calibrated_weights(self) -> StoragePath:
        """The weights that were evaluated, where their statistics are not those of the checkpoint."""
        return self.root / "calibrated.safetensors"

    @property
    def baselines(self) -> StoragePath:
        """The runs of the networks that the job's is compared with, and a record of each that ended."""
        return self.root / "baselines"

    @property
    def baselines_result(self) -> StoragePath:
        """What these networks reach."""
        return self.root / "baselines.json"

    @property
    def version(self) -> StoragePath:
        """The registered model version."""
        return self.root / "version.json"

    @contextmanager
    def locked(self, job: Job, say: Callable[[str], None] = _log.info) -> Iterator[None]:
        """Hold the folder for one command and make sure that it belongs to this job, if to any.

        Args:
            job: Whose it has to be.
            say: Told why this waits, if it does.

        Raises:
            RequestError: If another command works in it, or it holds a job with other settings.
        """
        try:
            with locked(self.root, say):
                self._check_owner(job)
                yield
        except HeldError as error:
            raise RequestError(
                f"one command at a time may work on a job, {job.name!r} is being worked on in {self.root} by "
                f"{error}; wait for that command or end it"
            ) from error

    @property
    def is_claimed(self) -> bool:
        """Whether a job has started here."""
        return self.job_file.exists()

    def claim(self, job: Job) -> None:
        """Store the settings: from now on the folder is this job's."""
        if not self.is_claimed:
            self.job_file.write_text(yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False))

    def _check_owner(self, job: Job) -> None:
        if not self.is_claimed:
            return
        stored = Job.model_validate(yaml.safe_load(self.job_file.read_text()))
        if stored.key() != job.key():
            raise RequestError(
                f"a job keeps its settings, {job.name!r} was started with {_differences(stored, job)}; "
                f"give the changed job another name, or remove {self.root}"
            )


def _differences(stored: Job, asked: Job) -> str:
    old, new = _flat(stored.settings()), _flat(asked.settings())
    changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {old.get(key)} and now has {new.get(key)}" for key in sorted(changed))


def _flat(data: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in data.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        flat.update(inner)
    return flat
