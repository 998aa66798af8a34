"""Twenty steps of the real training, in float64 and on few images, so that every digit means something.

    python -m tests.golden.golden_run            # records all networks anew
    python -m tests.golden.golden_run vit        # one of them

What is recorded (loss of each step, norm statistics, logits of all depths) is compared with by
`test_golden.py`. A change of numerics records it in the commit that makes it, which so shows both.
"""

import contextlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from ray import train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.config import Job, parse_job
from pipeline.data.plan import prepare_data
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.statistics import STATISTICS
from pipeline.storage import StoragePath
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.epochs import Reached
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.session import Session, open_session
from pipeline.training.uploading import training_state
from pipeline.training.worker import add_over_workers, average_statistics, train_epoch, validate

BATCH_SIZE, NUM_STEPS, EPOCHS = 16, 10, 2
NUM_VALIDATION = 32
RECORDS = Path(__file__).parent

BACKBONES: dict[str, dict[str, Any]] = {
    "resnet": {
        "name": "resnet18",
        "small_images": True,
        "kwargs": {"layers": [2, 2, 2, 2], "channels": [8, 8, 8, 8]},
    },
    "mobilenet": {"name": "mobilenetv2_035"},
    "vit": {
        "name": "vit_tiny_patch16_224",
        "kwargs": {"patch_size": 8, "depth": 8, "embed_dim": 16, "num_heads": 2},
    },
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "kwargs": {
            "embed_dim": 8,
            "depths": [2, 2, 2],
            "num_heads": [1, 2, 2],
            "window_size": 4,
            "drop_path_rate": 0.0,
        },
    },
}


@dataclass(frozen=True)
class GoldenRun:
    """What a training came to.

    Attributes:
        losses: Of every step.
        statistics: Mean of every running mean and variance, by buffer; of path statistics, by path.
        logits: Of one image at every depth, by letters.
        validation: Losses of the last epoch on validation images, with statistics taken again for every path.
    """

    losses: list[float]
    statistics: dict[str, float]
    logits: dict[str, list[float]]
    validation: dict[str, float]

    def to_json(self) -> str:
        """Return it as text, one number a line, so that a change is seen where it is."""
        return json.dumps(asdict(self), indent=1)


def golden_job(backbone: str, **training: Any) -> Job:
    """Return a job of two short epochs under the default rule."""
    return parse_job(
        {
            "name": "golden",
            "data": {"train": "builtin:digits", "image_size": 32, "crop": "pad", "flip_probability": 0.0},
            "backbone": BACKBONES[backbone],
            "training": {
                "epochs": EPOCHS,
                "batch_size": BATCH_SIZE,
                "lr": 0.02,
                "warmup_epochs": 1,
                "deterministic": True,
                **training,
            },
            "evaluation": {"calibration_images": 5 * BATCH_SIZE},
            "registry": {"model": "golden"},
        }
    )


def run_golden(backbone: str, folder: Path, *, stops_after: int | None = None, **training: Any) -> GoldenRun:
    """Train by the code that workers run: in this process, or where `workers` are several in those of a Ray.

    Args:
        backbone: One of `BACKBONES`.
        folder: Empty; for all that is written.
        stops_after: Updates of the second epoch after which the training stops and resumes from there.
        **training: Settings of the section.
    """
    job = golden_job(backbone, **training)
    plan = plan_training(job, _few_images(folder), validates_all_profiles=True)
    num_workers = job.training.workers
    TorchTrainer(
        train_and_describe,
        train_loop_config={"plan": plan, "folder": folder, "stops_after": stops_after},
        # Without workers Ray Train runs the loop right here.
        scaling_config=ScalingConfig(num_workers=num_workers if num_workers > 1 else 0),
        run_config=RunConfig(storage_path=str(folder / "ray"), name="golden"),
    ).fit()
    return GoldenRun(**json.loads((folder / "golden.json").read_text()))


def train_and_describe(config: dict[str, Any]) -> None:
    """Train a plan as `train_loop` does and write what it came to; what each worker runs."""
    folder, stops_after = config["folder"], config["stops_after"]
    with _in_float64(temporary=folder):
        run = _train(config["plan"], StoragePath.local(folder / "run"), stops_after)
        if train.get_context().get_world_rank() == 0:
            (folder / "golden.json").write_text(run.to_json())


def _train(plan: TrainingPlan, run: StoragePath, stops_after: int | None) -> GoldenRun:
    losses: list[Tensor] = []
    session, reached = _open(plan, run, losses), Reached()
    while len(reached.history) < EPOCHS:
        if stops_after is not None and len(reached.history) == 1 and not reached.updates:
            _train_until(session, reached, stops_after)
            session = _open(plan, run, losses)
            (checkpoint,) = Path(tempfile.gettempdir()).glob("skipline-*")
            reached = load_checkpoint(checkpoint, training_state(session))
        trained = train_epoch(session, reached)
        average_statistics(session)
        metrics = {**trained, **validate(session, epoch=len(reached.history) + 1)}
        reached = reached.with_epoch(metrics)
    mean_losses = add_over_workers(session, torch.stack(losses)) / session.world_size
    return _describe(session.network, session.validation_batches, mean_losses.tolist(), metrics)


def _open(plan: TrainingPlan, run: StoragePath, losses: list[Tensor]) -> Session:
    """Return a session that computes in float64 and keeps the loss of every step."""
    session = open_session(plan, None, run)
    for loader in (session.train_batches, session.validation_batches):
        loader.collate_fn = _collate_as_float64
    backward = session.updater.backward

    def keep(*arguments: Any) -> Tensor:
        losses.append(backward(*arguments))
        return losses[-1]

    session.updater.backward = keep  # type: ignore[method-assign]
    return session


def _collate_as_float64(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*samples, strict=True)
    return torch.stack(images).double(), torch.tensor(labels)


class _Stopped(Exception):
    """Raised where a machine would go, once the checkpoint is written."""


class _StopsAfter:
    """Takes the place of `EarlyCheckpoints`: one checkpoint after so many updates, and the end."""

    def __init__(self, updates: int) -> None:
        self._updates_left = updates

    def are_due(self) -> bool:
        self._updates_left -= 1
        return self._updates_left == 0

    def written(self) -> None:
        raise _Stopped


def _train_until(session: Session, reached: Reached, updates: int) -> None:
    session.early = _StopsAfter(updates)  # type: ignore[assignment]
    with contextlib.suppress(_Stopped):
        train_epoch(session, reached)


@torch.no_grad()
def _describe(
    network: AdaptiveDepthNetwork,
    validation: DataLoader[Any],
    losses: list[float],
    metrics: dict[str, float],
) -> GoldenRun:
    network.eval()
    images, _ = next(iter(validation))
    logits = network.forward_profiles(images[:1], network.profiles)
    return GoldenRun(
        losses,
        {name: fmean(means) for name, means in _statistics(network).items()},
        {str(profile): values[0].tolist() for profile, values in logits.items()},
        {name: metrics[name] for name in ("full/loss", "base/loss")},
    )


def _statistics(network: AdaptiveDepthNetwork) -> dict[str, list[float]]:
    """Return the mean of every running mean and variance; those of one path together."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, values in network.named_buffers():
        owner, kind = name.rpartition(".")[::2]
        if kind in STATISTICS:
            root, path, *_ = owner.split(".")
            found[f"{root}.{path}.{kind}" if root == "path_statistics" else name].append(values.mean().item())
    return found


def _few_images(folder: Path) -> StoragePath:
    """Return the file of a data plan that fills ten batches."""
    plan = prepare_data(
        "builtin:digits",
        None,
        validation_fraction=0.5,
        seed=0,
        bad_items="fail",
        max_bad_fraction=0.0,
    )
    train, held_out = slice(NUM_STEPS * BATCH_SIZE), slice(NUM_VALIDATION)
    plan = replace(
        plan,
        train_rows=plan.train_rows[train],
        train_labels=plan.train_labels[train],
        validation_rows=plan.validation_rows[held_out],
        validation_labels=plan.validation_labels[held_out],
    )
    plan.save(folder / "data.npz")
    return StoragePath.local(folder / "data.npz")


@contextmanager
def _in_float64(*, temporary: Path) -> Iterator[None]:
    """Make float64 the default while it lasts, and leave the process as it was."""
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    tempfile.tempdir = str(temporary)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        tempfile.tempdir = None
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        torch.set_rng_state(random_state)


def record(backbone: str) -> Path:
    """Return the file that holds what a network's plain training comes to."""
    return RECORDS / f"{backbone}.json"


def main(backbones: list[str]) -> None:
    """Record networks anew."""
    for backbone in backbones or BACKBONES:
        with tempfile.TemporaryDirectory() as folder:
            record(backbone).write_text(run_golden(backbone, Path(folder)).to_json() + "\n")
        print(f"recorded {record(backbone)}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
