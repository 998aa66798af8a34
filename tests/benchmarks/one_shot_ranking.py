"""Does one training of all splits at once rank them as a training of each does? On CIFAR-10, without Ray.

A one-shot network is trained with a split drawn anew for every step, and all splits are scored by its
weights. Then some of them, spread evenly over their costs, are trained each by itself: same seed, same
recipe, same number of epochs. The rank correlation says how far the one predicts the other. Cheap splits have
a large hypervolume by themselves, so ranking by multiply-adds alone stands beside it, and so do scores that
cost does not enter. With several seeds, how alike two of them rank the same trainings is the most that
any prediction can reach.

Run:      python -m tests.benchmarks.one_shot_ranking PATH/TO/train.parquet --seeds 0 1
Expect:   a table; see RESULTS.md
Takes:    half an hour a seed on one CPU core; what is trained is kept in --storage, and is gone on with
"""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
COLUMNS = ("hypervolume", "mean_accuracy", "base_accuracy")


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
            "training": {
                "epochs": epochs,
                "batch_size": 128,
                "lr": 0.1,
                "warmup_epochs": 1,
                "precision": "bf16",
            },
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
    torch.manual_seed(plan.seed)
    network = OneShotNetwork(plan.network)
    train_together(network, plan)
    held_out = list(build_validation_loader(plan, rank=0, world_size=1))
    loader = build_train_loader(plan, rank=0, world_size=1)
    images = list(take_images(loader, plan.calibration_images))
    found = reach_splits(network, images, held_out, device=CPU)
    return {split: Scores.of(reached) for split, reached in found.items()}


def scores_alone(plan: TrainingPlan) -> Scores:
    """Train one split by itself and return its scores."""
    torch.manual_seed(plan.seed)
    network = build_network(plan)
    train_together(network, plan)
    images = take_images(build_train_loader(plan, rank=0, world_size=1), plan.calibration_images)
    anew = calibrate(network, images, device=CPU)
    return Scores.of(reach(anew, build_validation_loader(plan, rank=0, world_size=1), device=CPU))


def spread(costs: Mapping[Points, int], number: int) -> list[Points]:
    """Return so many splits, evenly spaced in the order of their costs."""
    ordered = sorted(costs, key=lambda split: (costs[split], split))
    step = (len(ordered) - 1) / max(1, number - 1)
    return [ordered[round(index * step)] for index in range(number)]


def describe(name: str, predicted: Sequence[float], real: Sequence[float]) -> str:
    """Return a line with how far one ranking predicts another."""
    spearman, kendall = spearmanr(predicted, real), kendalltau(predicted, real)
    return (
        f"{name}: Spearman {spearman.statistic:+.2f} (p {spearman.pvalue:.2g}), "
        f"Kendall {kendall.statistic:+.2f} (p {kendall.pvalue:.2g})"
    )


@dataclass(frozen=True)
class Ranked:
    """What one seed's trainings brought, by split."""

    costs: Mapping[Points, int]
    at_once: Mapping[Points, Scores]
    alone: Mapping[Points, Scores]

    def of(self, trained: Mapping[Points, Scores], column: str) -> list[float]:
        """Return one kind of score of the splits that were trained alone."""
        return [getattr(trained[split], column) for split in self.alone]

    def describe(self, seed: int) -> list[str]:
        """Return lines that say how well splits were ranked."""
        cheap_first = [-float(self.costs[split]) for split in self.alone]
        lines = []
        for column in COLUMNS:
            real = self.of(self.alone, column)
            lines += [
                describe(
                    f"Seed {seed}, {column}, at once against alone", self.of(self.at_once, column), real
                ),
                describe(
                    f"Seed {seed}, {column}, fewest multiply-adds first against alone", cheap_first, real
                ),
            ]
        best = max(self.alone, key=lambda split: self.alone[split].hypervolume)
        by_one_shot = sorted(self.alone, key=lambda split: -self.at_once[split].hypervolume)
        return [
            *lines,
            f"Seed {seed}: the best of the {len(self.alone)} by hypervolume, {list(best)}, has place "
            f"{by_one_shot.index(best) + 1} at once.",
        ]


def rank(data: Path, folder: Path, *, seed: int, epochs: int, images: int, num_splits: int) -> Ranked:
    """Train what is not trained yet with a seed, keep its scores in a folder, return all."""
    folder.mkdir(parents=True, exist_ok=True)
    job = make_job(data, seed=seed, epochs=epochs)
    shared = prepare(job, folder, images=images)
    plan = one_shot_plan(job, job.search, shared, weights=GivenWeights(), latencies={})
    network = OneShotNetwork(plan.network)
    costs = {split: network.view(split).cost("base").macs for split in network.splits()}
    file = folder / "one_shot.json"
    if not file.exists():
        found = one_shot_scores(plan)
        file.write_text(json.dumps([[split, asdict(scores)] for split, scores in found.items()]))
    at_once = {tuple(split): Scores(**one) for split, one in json.loads(file.read_text())}
    alone: dict[Points, Scores] = {}
    for split in spread(costs, num_splits):
        file = folder / f"{'-'.join(map(str, split))}.json"
        if not file.exists():
            its_plan = plan_training(job.override({"split": list(split), "seed": plan.seed}), shared)
            file.write_text(json.dumps(asdict(scores_alone(replace(its_plan, recipe=plan.recipe)))))
        alone[split] = Scores(**json.loads(file.read_text()))
        print(f"seed {seed}, {split}: at once {at_once[split]}, alone {alone[split]}", flush=True)  # noqa: T201
    return Ranked(costs, at_once, alone)


def main() -> None:
    """Train what is not trained yet, rank, publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--splits", type=int, default=9, help="how many are trained by themselves")
    parser.add_argument("--storage", type=Path, default=Path("build/one_shot_ranking"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds: dict[int, Ranked] = {}
    for seed in options.seeds:
        folder = options.storage / f"{seed}-{options.epochs}-{options.images}"
        seeds[seed] = rank(
            options.data,
            folder,
            seed=seed,
            epochs=options.epochs,
            images=options.images,
            num_splits=options.splits,
        )
    rows = [["seed", "split", "base MMACs", *(f"{column}: at once, alone" for column in COLUMNS)]]
    for seed, ranked in seeds.items():
        for split, scores in ranked.alone.items():
            pairs = ((getattr(ranked.at_once[split], column), getattr(scores, column)) for column in COLUMNS)
            cells = (f"{at_once:.4f}, {alone:.4f}" for at_once, alone in pairs)
            rows.append([str(seed), str(list(split)), f"{ranked.costs[split] / 1e6:.2f}", *cells])
    notes = [line for seed, ranked in seeds.items() for line in ranked.describe(seed)]
    for (a, first), (b, second) in itertools.combinations(seeds.items(), 2):
        notes += [
            describe(
                f"{column}, alone with seed {a} and alone with seed {b}",
                first.of(first.alone, column),
                second.of(second.alone, column),
            )
            for column in COLUMNS
        ]
    notes.append(f"{options.images:,} training images of 32 pixels, {options.epochs} epochs each.")
    command = f"{COMMAND} --seeds {' '.join(map(str, options.seeds))}"
    publish("One-shot ranking of splits", command, [], notes, rows=rows)


if __name__ == "__main__":
    main()
