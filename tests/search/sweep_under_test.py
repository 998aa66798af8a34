"""A tiny sweep on built-in digits; run as a script it is the command that a test kills."""

import json
import sys
from pathlib import Path

from pipeline.config import Job, parse_job
from pipeline.networks.profiles import StageSize
from pipeline.storage import StoragePath

NUM_BLOCKS = (3, 3, 1, 1)
STAGES = tuple(StageSize(blocks) for blocks in NUM_BLOCKS)


def tiny_job(folder: Path, **search) -> Job:
    """Return a job of seconds: a ResNet with two skippable stages on a tenth of the digits."""
    return parse_job(
        {
            "name": "tiny",
            "seed": 3,
            "data": {
                "train": "builtin:digits",
                "image_size": 8,
                "crop": "none",
                "flip_probability": 0.0,
            },
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": list(NUM_BLOCKS), "channels": [8, 8, 8, 8]},
            },
            "training": {"epochs": 4, "batch_size": 32, "workers": 2, "warmup_epochs": 1},
            "search": {"space": "resnet", "trials": 3, "epochs": 2, "data_fraction": 0.2, **search},
            "registry": {"model": "tiny"},
            "storage": str(folder),
        }
    )


def save_data(job: Job, path: Path) -> StoragePath:
    """Prepare the job's data."""
    from pipeline.data.plan import prepare_data

    prepare_data(
        job.data.train,
        None,
        validation_fraction=job.data.validation_fraction,
        seed=job.seed,
        bad_items=job.data.bad_items,
        max_bad_fraction=job.data.max_bad_fraction,
    ).save(path)
    return StoragePath.local(path)


class Diary:
    """An observer that remembers, and writes every line to a file where it has one."""

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[tuple] = []
        self._path = path

    def on_start(self, trial_id, number, values):
        self._write("start", trial_id, number, values)

    def on_epoch(self, trial_id, metrics, *, epoch, timestamp_ms):
        self._write("epoch", trial_id, epoch, timestamp_ms, metrics)

    def on_pause(self, trial_id):
        """Not under test."""

    def on_resume(self, trial_id):
        """Not under test."""

    def on_end(self, trial_id, outcome, cause):
        self._write("end", trial_id, outcome, cause)

    def _write(self, *line):
        self.lines.append(line)
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def main(folder: Path) -> None:
    """Run a sweep in a folder, one trial at a time, with a diary beside it."""
    from cluster.runtime import connected
    from pipeline.search.driver import run_search

    job = tiny_job(folder, trials=5, epochs=3)
    data = save_data(job, folder / "plan.npz")
    with connected():
        run_search(
            job,
            data,
            folder=StoragePath.local(folder) / "search",
            stages=STAGES,
            observers=[Diary(folder / "diary.jsonl")],
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
