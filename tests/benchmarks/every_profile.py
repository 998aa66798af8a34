"""Which rule makes every profile good, not only the two extremes, under one budget of compute.

Run:      python -m tests.benchmarks.every_profile PATH/TO/cifar10/train.parquet [--seeds 2] [--epochs 12]
Expect:   one table; about 25 minutes a rule and seed on two CPU cores
Writes:   jobs and results to runs-every-profile/, where the same command goes on; a section of RESULTS.md

The paper's rule trains `full` and `base`. The others spend more on a step, so they get fewer epochs: all have
the multiply-adds of the paper's rule in EPOCHS epochs.

Every profile is counted twice: as the network has it, and with its BatchNorm statistics taken anew, over
training images that run through the profile itself. The difference is what a profile loses to statistics of
inputs that it never sees.
"""

import argparse
import copy
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pipeline.config import load_job
from pipeline.evaluation.pareto import Point, pareto_front
from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.steps import load_network
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.session import build_loaders
from tests.benchmarks.paired import publish

FOLDER = Path("runs-every-profile")
COMMAND = "python -m tests.benchmarks.every_profile"
BACKBONE = {
    "name": "resnet18",
    "small_images": True,
    "kwargs": {"layers": [2, 2, 2, 2], "channels": [16, 32, 64, 128]},
}
RULES: dict[str, dict[str, Any]] = {
    "paper (logits)": {},
    "paper (logits and features)": {"features": 1.0},
    "fading labels": {"student_labels": "fading"},
    "sampled depths": {"students": "base_and_sampled"},
    "sampled depths, fading labels": {"students": "base_and_sampled", "student_labels": "fading"},
    "half sampled, fading labels": {
        "students": "base_and_sampled",
        "sampled_share": 0.5,
        "student_labels": "fading",
    },
}


CALIBRATION_IMAGES = 4096
"""Chosen: 32 batches, over which the mean of a channel's statistics is steady."""


@dataclass(frozen=True)
class Outcome:
    """What one training brought: accuracies in [0, 1], and how many profiles are on the Pareto front."""

    full: float
    base: float
    between: float
    worst: float
    num_pareto: int

    @classmethod
    def of(cls, points: Sequence[Point]) -> "Outcome":
        """Summarise the profiles of a network, `full` first and `base` last."""
        (full, *between, base) = [point.accuracy for point in points]
        return cls(full, base, statistics.mean(between), min(between), sum(pareto_front(points)))


def step_macs(network: AdaptiveDepthNetwork, profiles: Sequence[DepthProfile]) -> int:
    """Return the multiply-adds for one image of profiles that share their prefixes."""
    macs = network.segment_macs

    def walk(segment: int, members: Sequence[DepthProfile]) -> int:
        if segment == network.num_segments:
            return 0
        total = 0
        for skip in (False, True):
            branch = [profile for profile in members if network.skips_segment(segment, profile) is skip]
            if branch:
                total += (macs.skipped if skip else macs.whole)[segment] + walk(segment + 1, branch)
        return total

    return walk(0, profiles)


def relative_cost(rule: dict[str, Any]) -> float:
    """Return what a step of a rule costs on average, as multiples of the paper's."""
    with torch.device("meta"):
        network = AdaptiveDepthNetwork.from_timm(
            BACKBONE["name"], num_classes=10, image_size=32, small_images=True, **BACKBONE["kwargs"]
        )
    paper = step_macs(network, network.extremes)
    if rule.get("students") != "base_and_sampled":
        return 1.0
    with_one = [step_macs(network, (*network.extremes, one)) for one in network.profiles[1:-1]]
    return 1 + rule.get("sampled_share", 1.0) * (statistics.mean(with_one) / paper - 1)


def job(name: str, rule: dict[str, Any], data: Path, *, seed: int, epochs: int) -> dict[str, Any]:
    """Return the job file of one training."""
    return {
        "name": name,
        "seed": seed,
        "data": {"train": str(data.resolve()), "image_size": 32, "crop": "pad"},
        "backbone": BACKBONE,
        "training": {
            "epochs": epochs,
            "batch_size": 128,
            "workers": 2,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "warmup_epochs": 1,
            "precision": "bf16",
        },
        "distillation": rule,
        "registry": {"model": name},
        "storage": str(FOLDER),
    }


def measure(
    name: str, rule: dict[str, Any], data: Path, *, seed: int, epochs: int
) -> tuple[Outcome, Outcome]:
    """Train and evaluate by `skipline evaluate`; returns the outcome as it is, and with statistics anew."""
    slug = f"{name.translate(str.maketrans({' ': '-', ',': None, '(': None, ')': None}))}-{seed}"
    path = FOLDER / f"{slug}.yaml"
    path.write_text(yaml.safe_dump(job(slug, rule, data, seed=seed, epochs=epochs)))
    subprocess.run([sys.executable, "-m", "pipeline", "evaluate", str(path)], check=True)
    table = ProfileTable.from_json((FOLDER / slug / "profiles.json").read_text())
    as_it_is = [Point(result.macs, result.top1) for result in table.results]
    checkpoint = Path(json.loads((FOLDER / slug / "training.json").read_text())["checkpoint"])
    plan = plan_training(load_job(str(path)), (FOLDER / slug / "data.npz").absolute())
    return Outcome.of(as_it_is), Outcome.of(calibrated_points(load_network(plan, checkpoint), plan))


def calibrated_points(network: AdaptiveDepthNetwork, plan: TrainingPlan) -> list[Point]:
    """Return cost and accuracy of every profile, each with BatchNorm statistics of its own."""
    batches, validation_batches = build_loaders(plan, rank=0, world_size=1)
    num_batches = CALIBRATION_IMAGES // plan.recipe.micro_batch_size
    images = [batch for batch, _ in itertools.islice(batches, num_batches)]
    held_out = list(validation_batches)
    points = []
    for profile in network.profiles:
        module = with_own_statistics(network.subnetwork(profile), images)
        hits = sum(int((module(batch).argmax(1) == labels).sum()) for batch, labels in held_out)
        points.append(Point(network.cost(profile).macs, hits / sum(len(labels) for _, labels in held_out)))
    return points


def with_own_statistics(subnetwork: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Return a copy whose BatchNorm statistics are the means over these batches."""
    module = copy.deepcopy(subnetwork).requires_grad_(False)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    module.train()
    for images in batches:
        module(images)
    return module.eval()


def describe(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return one line: means over the seeds, and each seed's worst profile against its base."""
    columns = {
        key: statistics.mean(getattr(outcome, key) for outcome in outcomes)
        for key in ("full", "base", "between", "worst")
    }
    figures = ", ".join(f"{key} {value:.4f}" for key, value in columns.items())
    gaps = " and ".join(f"{100 * (outcome.worst - outcome.base):+.1f}" for outcome in outcomes)
    fronts = " and ".join(str(outcome.num_pareto) for outcome in outcomes)
    return f"{name}: {figures}; worst against base {gaps} points; on the front {fronts}"


def main() -> None:
    """Measure all rules and publish one section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=list(RULES), help="names of rules")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    notes = []
    for name in options.only:
        rule = RULES[name]
        epochs = round(options.epochs / relative_cost(rule))
        pairs = [measure(name, rule, options.data, seed=seed, epochs=epochs) for seed in range(options.seeds)]
        as_it_is, anew = zip(*pairs, strict=True)
        notes.append(describe(f"{name}, {epochs} epochs", as_it_is))
        notes.append(describe(f"{name}, {epochs} epochs, statistics anew", anew))
        (FOLDER / "notes.json").write_text(json.dumps(notes, indent=1))
    settings = f"--seeds {options.seeds} --epochs {options.epochs}"
    publish("Every profile good", f"{COMMAND} PATH/TO/cifar10/train.parquet {settings}", [], notes)


if __name__ == "__main__":
    main()
