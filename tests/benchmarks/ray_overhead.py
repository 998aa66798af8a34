"""The epoch loop in a Ray Train worker against the bare step on the same images, in turns in that worker.

The epoch loop is the one that trains: loader, schedule, progress to the driver. The bare step gets the same
batches ready in memory. What Ray costs outside of epochs (start, reports, checkpoints) is not in it.

Run:      python -m tests.benchmarks.ray_overhead
Expect:   at least 0.97 of the bare step's speed; 0.98 measured
Takes:    about five minutes on two CPU cores
"""

import tempfile
from pathlib import Path
from typing import Any

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from cluster.runtime import connected
from pipeline.config import parse_job
from pipeline.data.loading import set_epoch
from pipeline.data.plan import prepare_data
from pipeline.storage import StoragePath
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.progress import open_board
from pipeline.training.session import Session, open_session
from pipeline.training.worker import place, train_epoch

from .generated_images import write_jpegs
from .paired import Comparison, compare, publish
from .training_step import BATCH_SIZE, IMAGE_SIZE, PRECISIONS, RESNET50

COMMAND = "python -m tests.benchmarks.ray_overhead"
STEPS = 3
"""Of an epoch; chosen: six seconds in float32 on one core."""
JPEG_SIZE = (256, 256)


def build_plan(folder: Path, precision: str) -> TrainingPlan:
    """Return a training of ResNet-50 on generated images, on one CPU core."""
    images = write_jpegs(folder / "images", BATCH_SIZE * STEPS, size=JPEG_SIZE)
    held_out = write_jpegs(folder / "held_out", 2, size=JPEG_SIZE)
    data = folder / "data.npz"
    prepare_data(
        str(images), str(held_out), validation_fraction=0.1, seed=0, bad_items="fail", max_bad_fraction=0.01
    ).save(data)
    job = {
        "name": "overhead",
        "data": {"train": str(images), "validation": str(held_out), "image_size": IMAGE_SIZE},
        "backbone": {"name": RESNET50.backbone},
        "training": {"epochs": 100, "batch_size": BATCH_SIZE, "lr": 1e-4, "precision": precision},
        "registry": {"model": "overhead"},
    }
    return plan_training(parse_job(job), StoragePath.local(data))


def compare_in_worker(config: dict[str, Any]) -> Comparison:
    """Time epochs and bare steps in turns; what Ray Train runs in its worker."""
    session = open_session(config["plan"], config["board"], config["run"])
    set_epoch(session.train_batches, 1)
    batches = list(session.train_batches)
    return compare(
        f"ResNet-50, {session.plan.recipe.precision}",
        ("Ray Train's epoch", lambda: train_epoch(session, 1)),
        ("bare steps", lambda: bare_steps(session, batches)),
    )


def bare_steps(session: Session, batches: list[Any]) -> None:
    """Take one step a batch, and nothing else."""
    for number, batch in enumerate(batches):
        session.updater.backward([place(session, batch, draw=number)], session.students.draw(number))
        session.updater.apply(number)


def measure(folder: Path, precision: str) -> Comparison:
    """Start one worker and return what it measured."""
    trainer = TorchTrainer(
        compare_in_worker,
        train_loop_config={
            "plan": build_plan(folder, precision),
            "board": open_board(),
            "run": StoragePath.local(folder / "runs" / "overhead"),
        },
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="overhead", storage_path=str(folder / "runs")),
    )
    comparison: Comparison = trainer.fit().return_value
    return comparison


def main() -> None:
    """Measure both precisions and publish them."""
    with tempfile.TemporaryDirectory() as folder, connected():
        comparisons = [measure(Path(folder) / precision, precision) for precision in PRECISIONS]
    notes = [
        f"{STEPS} steps on {BATCH_SIZE} JPEG images a round, {JPEG_SIZE[0]} pixels decoded to {IMAGE_SIZE}, "
        "one worker with one thread that also decodes."
    ]
    publish("Ray Train against bare steps", COMMAND, comparisons, notes)


if __name__ == "__main__":
    main()
