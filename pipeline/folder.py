"""The folder of a job: what each step leaves there, written so that a crash leaves the old or the new.

A step whose result file exists is done; the same command run again goes on with the next one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.config import Job
from pipeline.errors import RequestError


@dataclass(frozen=True)
class JobFolder:
    """Paths of one job's files, all below `root`."""

    root: Path

    @property
    def job_file(self) -> Path:
        """The settings that the job was started with."""
        return self.root / "job.yaml"

    @property
    def log_file(self) -> Path:
        """What Ray, MLflow and the steps have to say."""
        return self.root / "skipline.log"

    @property
    def data_plan(self) -> Path:
        """Which images train and validate."""
        return self.root / "data.npz"

    @property
    def initial_weights(self) -> Path:
        """What all trainings of a pretrained job start from."""
        return self.root / "initial.safetensors"

    @property
    def teacher_weights(self) -> Path:
        """Weights of the network that teaches the super-net."""
        return self.root / "teacher.safetensors"

    @property
    def search(self) -> Path:
        """Ray Tune's experiment and the trials' runs."""
        return self.root / "search"

    @property
    def search_result(self) -> Path:
        """All trials and the best of them."""
        return self.search / "result.json"

    @property
    def training_result(self) -> Path:
        """The best checkpoint and the history of the training."""
        return self.root / "training.json"

    @property
    def profile_table(self) -> Path:
        """What every depth profile reaches and costs."""
        return self.root / "profiles.json"

    @property
    def calibrated_weights(self) -> Path:
        """The weights that were evaluated, where their statistics are not those of the checkpoint."""
        return self.root / "calibrated.safetensors"

    @property
    def version(self) -> Path:
        """The registered model version."""
        return self.root / "version.json"

    @contextmanager
    def locked(self, job: Job) -> Iterator[None]:
        """Hold the folder for one process and make sure that it belongs to this job, if to any.

        Raises:
            RequestError: If another process works in it, or it holds a job with other settings.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RequestError(
                    f"one command at a time may work on a job, {job.name!r} is being worked on in "
                    f"{self.root}; wait for that command or end it"
                ) from error
            self._check_owner(job)
            yield

    @property
    def is_claimed(self) -> bool:
        """Whether a job has started here."""
        return self.job_file.exists()

    def claim(self, job: Job) -> None:
        """Store the settings: from now on the folder is this job's."""
        if not self.is_claimed:
            write_atomically(self.job_file, yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False))

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


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader or a crash sees the old text or the new one, never a part."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
