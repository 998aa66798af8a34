"""A search of splits and recipe against random search with as many epochs, on CIFAR-10.

Ours is the default: Optuna's TPE with ASHA, a trial on each core. Random search trains as many designs to the
end as ours trained epochs. Both start from the paper's split with the job's settings, and both winners are
compared with it.

Run:      python -m tests.benchmarks.search_against_random PATH/TO/train.parquet --seeds 0 1 2
Expect:   some 40 % of the epochs of training every trial fully; a median of 0.32, random search 0.28
Takes:    45 minutes a seed on two CPU cores; what is done is kept in --storage, and is gone on with
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Job, parse_job
from pipeline.evaluation.pareto import REFERENCE_RELATIVE_COST
from pipeline.search.result import SearchResult
from pipeline.search.settings import describe_values
from pipeline.search.verdict import describe_verdict
from pipeline.steps import opened, tune

from .paired import publish

COMMAND = "python -m tests.benchmarks.search_against_random PATH/TO/train.parquet"
TRIALS, EPOCHS = 16, 6
IMAGES, ALL_IMAGES, VALIDATION = 10_000, 50_000, 1 / 6
"""A trial has the same share of both parts: 10,000 images train and 2,000 measure."""


class Printing:
    """Reports to standard output."""

    def say(self, text: str) -> None:
        """Print a fact."""
        print(text, flush=True)  # noqa: T201

    def advance(self, what: str, done: float, total: float) -> None:
        """Say nothing: epochs are facts."""


def make_job(data: Path, storage: Path, name: str, **search: object) -> Job:
    """Return a search of splits and recipe for a small ResNet."""
    seed = int(name.rpartition("-")[2])
    return parse_job(
        {
            "name": name,
            "seed": seed,
            "data": {"train": str(data), "image_size": 32, "validation_fraction": VALIDATION, "crop": "pad"},
            "backbone": {
                "name": "resnet18",
                "small_images": True,
                "kwargs": {"layers": [3, 3, 3, 3], "channels": [8, 16, 32, 64]},
            },
            "training": {"epochs": EPOCHS, "batch_size": 128, "lr": 0.1, "precision": "bf16"},
            "search": {
                "space": "resnet",
                "epochs": EPOCHS,
                "data_fraction": IMAGES / (ALL_IMAGES * (1 - VALIDATION)),
                **search,
            },
            "registry": {"model": "search-against-random"},
            "storage": str(storage),
        }
    )


def run(job: Job) -> SearchResult:
    """Return a search's result; the same call goes on."""
    with opened(job, Printing()) as session:
        result = tune(session)
    if result is None:
        raise RuntimeError("the job has no search")
    return result


def best_over_epochs(result: SearchResult) -> str:
    """Return the best score so far after every trial, with the epochs that were spent until then."""
    epochs, best, steps = 0, 0.0, []
    for trial in result.trials:
        epochs += trial.epochs
        if trial.score > best:
            best = trial.score
            steps.append(f"{epochs}: {best:.4f}")
    return ", ".join(steps)


def trial_rows(seed: int, result: SearchResult) -> list[list[str]]:
    """Return cells that describe the trials of a search."""
    return [
        [
            str(seed),
            str(trial.number + 1),
            "best" if trial == result.best else trial.outcome,
            str(trial.epochs),
            f"{trial.score:.4f}",
            describe_values(trial.values),
        ]
        for trial in result.trials
    ]


def summary(name: str, results: Sequence[SearchResult]) -> str:
    """Return a line with medians over seeds."""
    best = statistics.median(result.best.score for result in results)
    gain = statistics.median(result.best.score - result.trials[0].score for result in results)
    epochs = statistics.median(sum(trial.epochs for trial in result.trials) for result in results)
    scores = ", ".join(f"{result.best.score:.4f}" for result in results)
    return (
        f"{name}: median best hypervolume {best:.4f} ({scores}), {gain:+.4f} against the paper's split with "
        f"the job's settings, {epochs:g} epochs"
    )


def main() -> None:
    """Run both searches for all seeds and publish them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--storage", type=Path, default=Path("build/search_against_random"))
    arguments = parser.parse_args()
    ours, random, notes = [], [], []
    for seed in arguments.seeds:
        job = make_job(arguments.data, arguments.storage, f"ours-{seed}", trials=TRIALS)
        ours.append(run(job))
        full = max(1, round(sum(trial.epochs for trial in ours[-1].trials) / EPOCHS))
        other = make_job(
            arguments.data,
            arguments.storage,
            f"random-{full}-{seed}",
            trials=full,
            sampler="random",
            scheduler="none",
        )
        random.append(run(other))
        notes += [f"Seed {seed}, ours: {line}" for line in describe_verdict(job, ours[-1])]
        for name, result in (("ours", ours[-1]), ("random", random[-1])):
            notes.append(f"Seed {seed}, {name}, best hypervolume by epochs spent: {best_over_epochs(result)}")
    notes += [summary("TPE and ASHA", ours), summary("Random search", random)]
    notes.append(
        f"{IMAGES:,} training images of 32 pixels, {TRIALS} trials of {EPOCHS} epochs at most; hypervolume "
        f"with the reference point ({REFERENCE_RELATIVE_COST}, 0)."
    )
    rows = [["seed", "trial", "outcome", "epochs", "hypervolume", "settings"]]
    for seed, result in zip(arguments.seeds, ours, strict=True):
        rows += trial_rows(seed, result)
    seeds = " ".join(map(str, arguments.seeds))
    publish("A search against random search", f"{COMMAND} --seeds {seeds}", [], notes, rows=rows)


if __name__ == "__main__":
    main()
