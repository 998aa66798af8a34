"""Which setting of the distillation is better: the same training with each, seed for seed, on CIFAR-10.

Run:      python -m tests.benchmarks.distillation_settings PATH/TO/cifar10/train.parquet --seeds 0 1 2
Expect:   two tables in one: top-1 of both extremes by arm, and what each arm gains over the first of its
          table; see RESULTS.md
Takes:    two to three minutes a training on one CPU core; six trainings a seed
Writes:   what each training reached to --storage, where the same command resumes; a section of RESULTS.md

All arms of a seed start from the same weights and see the same images in the same order, and all are counted
on the same held-out images, so the differences are paired.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch

from pipeline.baselines.result import Comparison, Depth, Spread
from pipeline.config import Job, parse_job
from pipeline.data.plan import prepare_data
from pipeline.evaluation.accuracy import accuracies, count_profiles
from pipeline.storage import StoragePath
from pipeline.training.plan import plan_training
from pipeline.training.session import build_network, build_validation_loader

from .every_profile import CPU, train_together
from .paired import publish

COMMAND = "python -m tests.benchmarks.distillation_settings PATH/TO/cifar10/train.parquet"
IMAGE_SIZE = 16
"""Chosen: a quarter of the computing at 32, so that there are seeds enough."""
DEPTHS: tuple[Depth, ...] = ("full", "base")

Reached = dict[Depth, float]
"""Top-1 of the extremes."""


@dataclass(frozen=True)
class Arm:
    """One way to set the distillation.

    Attributes:
        name: In the table.
        distillation: Its settings, beside the defaults.
        backbone: Further arguments of timm's model class.
    """

    name: str
    distillation: Mapping[str, Any]
    backbone: Mapping[str, Any] = field(default_factory=dict)


def _drops(where: str) -> Arm:
    return Arm(f"stochastic depth 0.1: {where}", {"stochastic_depth": where}, {"drop_path_rate": 0.1})


def _compares(temperature: float, stages: str) -> Arm:
    settings = {"features": 1.0, "feature_temperature": temperature, "feature_stages": stages}
    return Arm(f"features, temperature {temperature:g}, {stages}", settings)


GROUPS: tuple[tuple[Arm, ...], ...] = (
    (_drops("all"), _drops("super_net")),
    (
        _compares(1.0, "all"),
        _compares(1.0, "all_but_first"),
        _compares(4.0, "all"),
        _compares(4.0, "all_but_first"),
    ),
)
"""Arms that are compared with the first of their group."""


def make_job(arm: Arm, data: Path, *, seed: int, epochs: int) -> Job:
    """Return the job of one arm: the network of the preset `cifar10` with its recipe, on smaller images."""
    layers = {"layers": [3, 3, 3, 3], "channels": [16, 32, 64, 128]}
    return parse_job(
        {
            "name": "distillation-settings",
            "seed": seed,
            "data": {
                "train": str(data.resolve()),
                "validation_fraction": 0.5,
                "image_size": IMAGE_SIZE,
                "crop": "pad",
            },
            "backbone": {"name": "resnet18", "small_images": True, "kwargs": {**layers, **arm.backbone}},
            "training": {
                "epochs": epochs,
                "batch_size": 64,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "warmup_epochs": 1,
            },
            "distillation": dict(arm.distillation),
            "registry": {"model": "distillation-settings"},
        }
    )


def take_part(data: Path, folder: Path, *, images: int) -> Path:
    """Return a Parquet file with the first so many images and as many again to hold out."""
    path = folder / f"{images}.parquet"
    if not path.exists():
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(data).slice(0, 2 * images), path)
    return path


def prepare(job: Job, folder: Path) -> StoragePath:
    """Return the file of a seed's data plan, the same for all arms."""
    path = folder / f"data-{job.seed}.npz"
    if not path.exists():
        prepare_data(
            job.data.train,
            None,
            validation_fraction=job.data.validation_fraction,
            seed=job.seed,
            bad_items="fail",
            max_bad_fraction=0.0,
        ).save(path)
    return StoragePath.local(path)


def measure(job: Job, data: StoragePath) -> Reached:
    """Train once and return what the extremes reach on the images held out."""
    plan = plan_training(job, data)
    torch.manual_seed(job.seed)
    network = build_network(plan)
    train_together(network, plan)
    held_out = build_validation_loader(plan, rank=0, world_size=1)
    totals = count_profiles(
        network.eval(), held_out, network.extremes, device=CPU, precision=plan.recipe.precision
    )
    found = accuracies(totals, network.extremes, num_classes=plan.network.num_classes)
    return dict(zip(DEPTHS, (accuracy.top1 for accuracy in found.values()), strict=True))


def reached(arm: Arm, data: Path, folder: Path, *, seed: int, epochs: int) -> Reached:
    """Return what an arm reaches with a seed, trained now or by a former call of this program."""
    slug = "-".join(arm.name.replace(",", "").replace(":", "").split())
    file = folder / f"{slug}-{seed}.json"
    if not file.exists():
        job = make_job(arm, data, seed=seed, epochs=epochs)
        file.write_text(json.dumps(measure(job, prepare(job, folder))))
    found: Reached = json.loads(file.read_text())
    print(f"seed {seed}, {arm.name}: {found}", flush=True)  # noqa: T201
    return found


def compare(depth: Depth, arm: Sequence[Reached], first: Sequence[Reached]) -> Comparison:
    """Return one depth of an arm against the same of its group's first."""
    gains = [one[depth] - other[depth] for one, other in zip(arm, first, strict=True)]
    of_arm, of_first = (Spread.of([one[depth] for one in runs]) for runs in (arm, first))
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    return Comparison(depth, of_first, of_arm, statistics.fmean(gains), error, len(gains))


def describe(name: str, arm: Sequence[Reached], first: Sequence[Reached]) -> list[str]:
    """Return one row: means with their standard errors, and the gains over the first arm in points."""
    cells = []
    for depth in DEPTHS:
        one = compare(depth, arm, first)
        error = "" if one.adaptive.std is None else f" ± {one.adaptive.std / one.adaptive.num**0.5:.4f}"
        cells.append(f"{one.adaptive.mean:.4f}{error}")
        if arm is first:
            cells.append("")
            continue
        each = ", ".join(f"{100 * (a[depth] - b[depth]):+.2f}" for a, b in zip(arm, first, strict=True))
        verdict = {True: "more than noise", False: "noise", None: "one seed"}[one.is_beyond_noise]
        error = "" if one.gain_error is None else f" ± {100 * one.gain_error:.2f}"
        cells.append(f"{100 * one.gain:+.2f}{error} ({each}): {verdict}")
    return [name, *cells]


def main() -> None:
    """Train what is not trained yet, compare, publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=4000, help="that train; as many again are held out")
    parser.add_argument("--storage", type=Path, default=Path("build/distillation_settings"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.storage / f"{options.images}-{options.epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    data = take_part(options.data, folder, images=options.images)
    found = {
        (arm.name, seed): reached(arm, data, folder, seed=seed, epochs=options.epochs)
        for seed in options.seeds
        for group in GROUPS
        for arm in group
    }
    runs = {arm.name: [found[arm.name, seed] for seed in options.seeds] for group in GROUPS for arm in group}
    rows = [["arm", "full", "against the first (points)", "base", "against the first (points)"]]
    rows += [describe(arm.name, runs[arm.name], runs[group[0].name]) for group in GROUPS for arm in group]
    notes = [
        f"{options.images:,} images of {IMAGE_SIZE} pixels to train for {options.epochs} epochs, as many to "
        f"validate; mean and standard error over seeds {', '.join(map(str, options.seeds))}; noise: paired "
        "t-test, 95 %."
    ]
    command = f"{COMMAND} --seeds {' '.join(map(str, options.seeds))}"
    publish("Settings of the distillation", command, [], notes, rows=rows)


if __name__ == "__main__":
    main()
