"""Does one training of all splits at once rank them as a training of each does? On CIFAR-10, without Ray.

A one-shot network is trained with a split drawn anew for every step, and all splits are scored by its
weights. Then some of them, spread evenly over their costs, are trained each by itself: same seed, same
recipe, same number of epochs. The rank correlation says how far the one predicts the other. Cheap splits have
a large hypervolume by themselves, so ranking by multiply-adds alone stands beside it, and so do scores that
cost does not enter.

Run:      python -m tests.benchmarks.one_shot_ranking PATH/TO/train.parquet --seed 0
Expect:   a table; see RESULTS.md
Takes:    half an hour on two CPU cores; what is trained is kept in --storage, and is gone on with
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from scipy.stats import kendalltau, spearmanr

from pipeline.config import Job, parse_job
from pipeline.data.plan import prepare_data
from pipeline.evaluation.calibration import calibrate, take_images
from pipeline.evaluation.evaluate import Reached, reach
from pipeline.evaluation.one_shot import reach_splits
from pipeline.evaluation.score import Objective
from pipeline.networks.one_shot import OneShotNetwork, Points
from pipeline.search.one_shot import one_shot_plan
from pipeline.storage import StoragePath
from pipeline.training.initial_weights import GivenWeights
from pipeline.training.plan import TrainingPlan, load_data_plan, plan_training
from pipeline.training.session import build_network, build_train_loader, build_validation_loader

from .every_profile import CPU, train_together
from .paired import publish
from .search_against_random import ALL_IMAGES, IMAGES, VALIDATION

COMMAND = "python -m tests.benchmarks.one_shot_ranking PATH/TO/train.parquet"


@dataclass(frozen=True)
class Scores:
    """What a split is worth: by the search's default objective, and by two that cost does not enter."""

    hypervolume: float
    mean_accuracy: float
    base_accuracy: float

    @classmethod
    def of(cls, reached: Reached) -> "Scores":
        """Return the scores of a network whose profiles were counted."""
        network, accuracies = reached.network, reached.accuracies
        return cls(
            Objective().score(network, accuracies),
            fmean(accuracy.top1 for accuracy in accuracies.values()),
            accuracies[network.extremes[1]].top1,
        )


def make_job(data: Path, *, seed: int, epochs: int) -> Job:
    """Return the job whose splits are ranked: a ResNet with four stages of three blocks, 16 splits."""
    return parse_job(
        {
            "name": "one-shot-ranking",
            "seed": seed,
            "data": {"train": str(data.resolve()), "image_size": 32, "crop": "pad"},
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": [3, 3, 3, 3], "channels": [8, 16, 32, 64]},
            },
            "training": {"epochs": epochs, "batch_size": 128, "lr": 0.1, "warmup_epochs": 1},
            "search": {"space": "splits_only", "epochs": epochs, "warmup": "one_shot"},
            "registry": {"model": "one-shot-ranking"},
        }
    )


def prepare(job: Job, folder: Path, *, images: int) -> StoragePath:
    """Return the file of a data plan with a share of the images, as a search's trials have it."""
    path = folder / "data.npz"
    if not path.exists():
        prepare_data(
            job.data.train,
            None,
            validation_fraction=VALIDATION,
            seed=job.seed,
            bad_items="fail",
            max_bad_fraction=0.0,
        ).save(folder / "all.npz")
        whole = load_data_plan(StoragePath.local(folder / "all.npz"))
        whole.take(images / (ALL_IMAGES * (1 - VALIDATION)), seed=job.seed).save(path)
    return StoragePath.local(path)


def one_shot_scores(plan: TrainingPlan) -> dict[Points, Scores]:
    """Train all splits at once and return the scores of each."""
    network = build_network(plan)
    assert isinstance(network, OneShotNetwork)
    torch.manual_seed(plan.seed)
    train_together(network, plan)
    held_out = list(build_validation_loader(plan, rank=0, world_size=1))
    loader = build_train_loader(plan, rank=0, world_size=1)
    images = list(take_images(loader, plan.calibration_images))
    found = reach_splits(network, images, held_out, device=CPU)
    return {split: Scores.of(reached) for split, reached in found.items()}


def scores_alone(plan: TrainingPlan) -> Scores:
    """Train one split by itself and return its scores."""
    network = build_network(plan)
    torch.manual_seed(plan.seed)
    train_together(network, plan)
    images = take_images(build_train_loader(plan, rank=0, world_size=1), plan.calibration_images)
    anew = calibrate(network, images, device=CPU)
    return Scores.of(reach(anew, build_validation_loader(plan, rank=0, world_size=1), device=CPU))


def spread(costs: Mapping[Points, int], number: int) -> list[Points]:
    """Return so many splits, evenly spaced in the order of their costs."""
    ordered = sorted(costs, key=lambda split: (costs[split], split))
    step = (len(ordered) - 1) / max(1, number - 1)
    return [ordered[round(index * step)] for index in range(number)]


def describe(name: str, predicted: list[float], real: list[float]) -> str:
    """Return a line with how far one ranking predicts another."""
    spearman, kendall = spearmanr(predicted, real), kendalltau(predicted, real)
    return (
        f"{name}: Spearman {spearman.statistic:+.2f} (p {spearman.pvalue:.2g}), "
        f"Kendall {kendall.statistic:+.2f} (p {kendall.pvalue:.2g})"
    )


def main() -> None:
    """Train what is not trained yet, rank, publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--splits", type=int, default=9, help="how many are trained by themselves")
    parser.add_argument("--storage", type=Path, default=Path("build/one_shot_ranking"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.storage / f"{options.seed}-{options.epochs}-{options.images}"
    folder.mkdir(parents=True, exist_ok=True)
    job = make_job(options.data, seed=options.seed, epochs=options.epochs)
    data = prepare(job, folder, images=options.images)
    plan = one_shot_plan(job, job.search, data, weights=GivenWeights(), latencies={})
    network = OneShotNetwork(plan.network)
    costs = {split: network.view(split).cost("base").macs for split in network.splits()}

    def kept(name: str) -> Path:
        return folder / f"{name}.json"

    if not kept("one_shot").exists():
        found = one_shot_scores(plan)
        kept("one_shot").write_text(json.dumps([[split, vars(scores)] for split, scores in found.items()]))
    at_once = {tuple(split): Scores(**one) for split, one in json.loads(kept("one_shot").read_text())}
    alone: dict[Points, Scores] = {}
    for split in spread(costs, options.splits):
        file = kept("-".join(map(str, split)))
        if not file.exists():
            its_plan = plan_training(job.override({"split": list(split), "seed": plan.seed}), data)
            file.write_text(json.dumps(vars(scores_alone(replace(its_plan, recipe=plan.recipe)))))
        alone[split] = Scores(**json.loads(file.read_text()))
        print(split, "at once", at_once[split], "alone", alone[split], flush=True)  # noqa: T201
    columns = ("hypervolume", "mean_accuracy", "base_accuracy")
    rows = [["split", "base MMACs", *(f"{name}: at once, alone" for name in columns)]]
    for split, scores in alone.items():
        cells = (f"{getattr(at_once[split], name):.4f}, {getattr(scores, name):.4f}" for name in columns)
        rows.append([str(list(split)), f"{costs[split] / 1e6:.2f}", *cells])
    notes = []
    for name in columns:
        real = [getattr(scores, name) for scores in alone.values()]
        predicted = [getattr(at_once[split], name) for split in alone]
        notes.append(describe(f"{name}, at once against alone", predicted, real))
        cheap_first = [-float(costs[split]) for split in alone]
        notes.append(describe(f"{name}, fewest multiply-adds first against alone", cheap_first, real))
    best = max(alone, key=lambda split: alone[split].hypervolume)
    place = sorted(alone, key=lambda split: -at_once[split].hypervolume).index(best) + 1
    notes.append(f"The best of the {len(alone)} by hypervolume, {list(best)}, has place {place} at once.")
    notes.append(
        f"{options.images:,} training images of 32 pixels, {options.epochs} epochs each, one seed: the "
        "scores of trainings that differ in nothing but their seed would not rank alike either."
    )
    publish("One-shot ranking of splits", f"{COMMAND} --seed {options.seed}", [], notes, rows=rows)


if __name__ == "__main__":
    main()
