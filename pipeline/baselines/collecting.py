"""From the epochs of trainings to what they are compared by."""

from collections.abc import Sequence

from pipeline.recipe import TrainingConfig
from pipeline.training.best import best_epoch
from pipeline.training.epochs import ALONE, SCORE, EpochReport

from .record import BaselineRecord
from .result import DEPTHS, BaselineRun, Baselines, Depth, Kind


def collect(records: Sequence[BaselineRecord], *, recipe: TrainingConfig, num_profiles: int) -> Baselines:
    """Return the result of the trainings so far.

    Args:
        records: Of all that have ended, the job's own among them where it counts.
        recipe: Of the job's own training.
        num_profiles: Depths of the adaptive network.
    """
    ordered = sorted(records, key=lambda record: (record.training.seed, record.training.subject))
    rows = [row for record in ordered for row in rows_of(record, recipe)]
    return Baselines(tuple(rows), recipe.workers, num_profiles)


def rows_of(record: BaselineRecord, recipe: TrainingConfig) -> list[BaselineRun]:
    """Return what a training reached, by the checkpoint that it took for its best.

    An adaptive one has a single checkpoint for both depths, chosen as the recipe says; a network alone is
    chosen by the very number that is compared.
    """
    subject, history = record.training.subject, record.history
    if subject == "adaptive":
        best = best_epoch(history, by=recipe.best_by, order=recipe.best_is)
        return [_row(record, best, profile, "adaptive", f"{profile}/top1") for profile in DEPTHS]
    best = best_epoch(history, by=SCORE, order="max")
    return [_row(record, best, subject, "alone", f"{ALONE}/top1")]


def train_s(history: Sequence[EpochReport]) -> float:
    """Return how long the epochs of a training took together, validation included."""
    return sum(report.metrics["epoch_s"] for report in history)


def _row(record: BaselineRecord, best: EpochReport, profile: Depth, kind: Kind, metric: str) -> BaselineRun:
    return BaselineRun(
        profile=profile,
        kind=kind,
        seed=record.training.seed,
        top1=best.metrics[metric],
        best_epoch=best.epoch,
        epochs=len(record.history),
        train_s=train_s(record.history),
    )
