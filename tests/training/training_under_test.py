"""A tiny deterministic training on built-in digits; run as a script it is the command that a test kills."""

import sys
from pathlib import Path

from pipeline.config import Job, parse_job
from pipeline.storage import StoragePath


def tiny_job(**training) -> Job:
    """Return a job of three short epochs whose every step draws by chance: drop path, crops and flips."""
    return parse_job(
        {
            "name": "tiny",
            "seed": 5,
            "data": {"train": "builtin:digits", "image_size": 8, "crop": "pad"},
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": [2, 2, 1, 1], "channels": [8, 8, 8, 8], "drop_path_rate": 0.2},
            },
            "training": {
                "epochs": 3,
                "batch_size": 8,
                "lr": 0.05,
                "warmup_epochs": 1,
                "deterministic": True,
                **training,
            },
            "registry": {"model": "tiny"},
        }
    )


def save_data(folder: Path) -> StoragePath:
    """Prepare the digits in a folder, if they are not there."""
    from pipeline.data.plan import prepare_data

    path = folder / "data.npz"
    if not path.exists():
        prepare_data(
            "builtin:digits",
            None,
            validation_fraction=0.2,
            seed=0,
            bad_items="fail",
            max_bad_fraction=0.0,
        ).save(path)
    return StoragePath.local(path)


def main(folder: Path, workers: int) -> None:
    """Train in a folder; every position of the training is appended to a file beside."""
    from cluster.runtime import connected
    from pipeline.training.plan import plan_training
    from pipeline.training.trainer import run_training

    plan = plan_training(tiny_job(workers=workers), save_data(folder))

    def write(progress):
        with (folder / "positions.txt").open("a") as file:
            file.write(f"{progress.epoch} {progress.step} {progress.num_steps}\n")
            file.writelines(f"{note}\n" for note in progress.notes)

    with connected():
        result = run_training(plan, name="run", storage=StoragePath.local(folder), on_progress=write)
    (folder / "result.txt").write_text(str(result.checkpoint))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
