"""How good every depth of one network is: by several rules, and against networks trained alone.

Run:      python -m tests.benchmarks.every_profile PATH/TO/cifar10/train.parquet [--seeds 0 1] [--epochs 8]
Expect:   a table; on one CPU core 20 minutes for a training of ours, 9 to 12 for a network alone
Writes:   weights to runs-every-profile/, where the same command goes on; a section of RESULTS.md

All are trained by the parts that a worker trains with, on the same images by the same recipe, seed for seed.
Rules that compute more in a step than the paper's get fewer epochs, so that all have the multiply-adds of the
paper's rule in EPOCHS epochs. A network alone has the super-net's or the base-net's shape, starts from the
same weights and has EPOCHS epochs as well. Every profile of ours is counted as training leaves its norms, and
with statistics taken anew for every path.
"""

import argparse
import re
import shlex
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.config import parse_job
from pipeline.data.loading import set_epoch
from pipeline.data.plan import prepare_data
from pipeline.evaluation.calibration import calibrate, take_images
from pipeline.evaluation.evaluate import Reached, reach
from pipeline.evaluation.pareto import Point, pareto_front
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.adaptive import memory_format
from pipeline.precision import autocast
from pipeline.recipe import DistillationConfig
from pipeline.storage import StoragePath
from pipeline.training.optimisation import build_criterion, build_optimizer, build_scheduler
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.session import (
    build_network,
    build_step,
    build_students,
    build_train_loader,
    build_validation_loader,
)
from pipeline.training.update import Updater
from tests.benchmarks.paired import publish

FOLDER = Path("runs-every-profile")
COMMAND = "python -m tests.benchmarks.every_profile"
CPU = torch.device("cpu")
PAPER: dict[str, Any] = {"reduction": "mean", "students": "base", "student_labels": "none"}
RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "sum": {"students": "base", "student_labels": "none"},
    "sum, fading labels": {"students": "base"},
    "fading labels, a quarter sampled": {"reduction": "mean"},
    "paper (logits)": PAPER,
    "paper (logits and features)": {**PAPER, "features": 1.0},
}
HEADINGS = [
    "top-1",
    "full",
    "base",
    "mean of those between",
    "worst against base (points)",
    "on the Pareto front",
]
ALONE = {"full alone": "full", "base alone": "base"}
RUNS = (*RULES, *ALONE)


def build_plan(name: str, data: Path, *, seed: int, epochs: int) -> TrainingPlan:
    """Return one training of a ResNet-18 with a quarter of its channels."""
    job = {
        "name": "every-profile",
        "seed": seed,
        "data": {"train": str(data.resolve()), "image_size": 32, "crop": "pad"},
        "backbone": {
            "name": "resnet18",
            "small_images": True,
            "kwargs": {"layers": [2, 2, 2, 2], "channels": [16, 32, 64, 128]},
        },
        "training": {
            "epochs": epochs,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "warmup_epochs": 1,
            "precision": "bf16",
        },
        "distillation": RULES.get(name, {}),
        "registry": {"model": "every-profile"},
    }
    path = FOLDER / f"data-{seed}.npz"
    if not path.exists():
        prepare_data(
            job["data"]["train"],
            None,
            validation_fraction=0.1,
            seed=seed,
            bad_items="fail",
            max_bad_fraction=0.0,
        ).save(path)
    return plan_training(parse_job(job), StoragePath.local(path))


def trained(name: str, plan: TrainingPlan) -> nn.Module:
    """Return the network of a run, trained now or by a former call of this program."""
    torch.manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    network = build_network(plan)
    network.to(memory_format=memory_format(network))
    module = network.subnetwork(ALONE[name]) if name in ALONE else network
    slug = re.sub(r"\W+", "-", name).strip("-")
    path = FOLDER / f"{slug}-{plan.seed}-{plan.recipe.epochs}.safetensors"
    if path.exists():
        module.load_state_dict(load_file(path))
        return module.eval()
    if name in ALONE:
        train_alone(module, plan)
    else:
        train_together(network, plan)
    save_file({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, path)
    return module.eval()


def train_together(network: AdaptiveDepthNetwork, plan: TrainingPlan) -> None:
    """Train all depths of a network by the plan's rule."""
    step = build_step(plan, network, device=CPU)
    optimizer = build_optimizer(network, plan.recipe)
    updater = Updater(step, step, optimizer, plan.recipe, device=CPU, world_size=1)
    students = build_students(plan, network)
    for update, batch in batches(plan, network, optimizer):
        updater.backward([batch], students.draw(update))
        updater.apply(update)


def train_alone(module: nn.Module, plan: TrainingPlan) -> None:
    """Train a plain network from labels."""
    optimizer = build_optimizer(module, plan.recipe)
    criterion = build_criterion(plan.recipe, is_smoothed=False)
    for _, (images, labels_B) in batches(plan, module, optimizer):
        with autocast(CPU, plan.recipe.precision):
            logits_BC = module(images)
        criterion(logits_BC.float(), labels_B).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def batches(plan: TrainingPlan, module: nn.Module, optimizer: Any) -> Iterator[tuple[int, Any]]:
    """Yield all batches of a run with their numbers; the learning rate follows the schedule."""
    loader = build_train_loader(plan, rank=0, world_size=1)
    scheduler = build_scheduler(optimizer, plan.recipe, updates_per_epoch=len(loader))
    module.train()
    for epoch in range(1, plan.recipe.epochs + 1):
        set_epoch(loader, epoch)
        for step, (images, labels_B) in enumerate(loader):
            update = (epoch - 1) * len(loader) + step
            scheduler.step_update(update)
            yield update, (images.to(memory_format=torch.channels_last), labels_B)


def step_macs(network: AdaptiveDepthNetwork, profiles: Sequence[DepthProfile]) -> int:
    """Return the multiply-adds for one image of profiles that share what they have in common."""
    macs = network.segment_macs
    return sum(
        (macs.skipped if network.skips(segment, path) else macs.whole)[segment]
        for segment in range(network.num_segments)
        for path in {network.path(segment, profile) for profile in profiles}
    )


def relative_cost(network: AdaptiveDepthNetwork, rule: DistillationConfig) -> float:
    """Return what a step of a rule costs on average, as multiples of the paper's."""
    if rule.students != "base_and_sampled":
        return 1.0
    paper = step_macs(network, network.extremes)
    with_one = [step_macs(network, (*network.extremes, one)) for one in network.profiles[1:-1]]
    return 1 + rule.sampled_share * (statistics.mean(with_one) / paper - 1)


def describe(name: str, curves: Sequence[Reached]) -> list[str]:
    """Return one row: means over the seeds, and each seed's worst profile against its base."""
    outcomes = [[accuracy.top1 for accuracy in curve.accuracies.values()] for curve in curves]
    full, base = (statistics.mean(outcome[end] for outcome in outcomes) for end in (0, -1))
    between = statistics.mean(top1 for outcome in outcomes for top1 in outcome[1:-1])
    gaps = ", ".join(f"{100 * (min(outcome) - outcome[-1]):+.1f}" for outcome in outcomes)
    fronts = ", ".join(str(sum(pareto_front(points(curve)))) for curve in curves)
    return [name, f"{full:.4f}", f"{base:.4f}", f"{between:.4f}", gaps, fronts]


def points(curve: Reached) -> list[Point]:
    """Return cost and accuracy of every profile."""
    network = curve.network
    return [Point(network.cost(profile).macs, one.top1) for profile, one in curve.accuracies.items()]


def measure(network: AdaptiveDepthNetwork, plan: TrainingPlan) -> tuple[Reached, Reached]:
    """Return what all profiles reach: as training leaves the norms, and with statistics of every path."""
    held_out = build_validation_loader(plan, rank=0, world_size=1)
    images = take_images(build_train_loader(plan, rank=0, world_size=1), plan.calibration_images)
    anew = calibrate(network, images, device=CPU)
    return reach(network, held_out, device=CPU), reach(anew, held_out, device=CPU)


def accuracy_alone(module: nn.Module, plan: TrainingPlan) -> float:
    """Return the share of the validation images that a plain network gets right."""
    held_out = build_validation_loader(plan, rank=0, world_size=1)
    with torch.no_grad():
        hits = [module(images).argmax(1) == labels for images, labels in held_out]
    return torch.cat(hits).double().mean().item()


def main() -> None:
    """Train what is not trained yet, measure all, publish one section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    rows = [HEADINGS]
    alone, all_profiles = [], []
    for name in options.only:
        runs = []
        for seed in options.seeds:
            plan = build_plan(name, options.data, seed=seed, epochs=options.epochs)
            epochs = round(options.epochs / relative_cost(build_network(plan), plan.distillation))
            plan = build_plan(name, options.data, seed=seed, epochs=epochs)
            runs.append((trained(name, plan), plan))
        if name in ALONE:
            reached = [accuracy_alone(module, plan) for module, plan in runs]
            each = ", ".join(f"{top1:.4f}" for top1 in reached)
            alone.append(f"{name} {statistics.mean(reached):.4f} ({each})")
            continue
        as_trained, anew = zip(*(measure(network, plan) for network, plan in runs), strict=True)
        rows += [describe(name, as_trained), describe(f"{name}, statistics anew", anew)]
        profiles = [
            f"{profile} {statistics.mean(curve.accuracies[profile].top1 for curve in anew):.4f}"
            for profile in anew[0].accuracies
        ]
        all_profiles.append(f"{name}, statistics anew: {', '.join(profiles)}")
    seeds = " ".join(map(str, options.seeds))
    names = "" if options.only == list(RUNS) else f" --only {shlex.join(options.only)}"
    command = f"{COMMAND} PATH/TO/cifar10/train.parquet --seeds {seeds} --epochs {options.epochs}{names}"
    publish("Every profile good", command, [], [*alone, *all_profiles], rows=rows)


if __name__ == "__main__":
    main()
