"""What the adaptive network gains over networks trained alone, in words and as a table."""

from collections.abc import Sequence

from pipeline.evaluation.choices import describe_images

from .result import Baselines, Comparison, Spread
from .trainings import BaselineTraining

COLUMNS = ("depth", "seeds", "adaptive top-1", "alone top-1", "gain", "standard error")


def describe_baselines(baselines: Baselines) -> list[str]:
    """Return sentences for the user."""
    lines = [describe_comparison(one) for one in baselines.comparisons]
    if lines and max(run.epochs for run in baselines.runs) > 1:
        lines.append(f"top-1 is on {describe_images('validation images', ['epoch'])} of each training")
    cost, num_depths = baselines.cost, baselines.num_profiles
    if cost is not None:
        lines.append(
            f"cost: {cost.adaptive_h:.2g} worker-hours for all {num_depths} depths of the adaptive network; "
            f"{cost.pair_h:.2g} for full and base alone, about {cost.every_depth_h:.2g} for each of the "
            f"{num_depths} alone"
        )
    return lines


def describe_comparison(one: Comparison) -> str:
    """Return what one depth gains, and whether that is more than noise."""
    reached = f"{one.profile}: adaptive {_spread(one.adaptive)}, alone {_spread(one.alone)}"
    if one.gain_error is None:
        return f"{reached}; difference {one.gain:+.4f} with one seed, which says nothing about its noise"
    gain = f"{one.gain:+.4f} with a standard error of {one.gain_error:.4f} over {one.num_pairs} seeds"
    if not one.is_beyond_noise:
        return f"{reached}; difference {gain}: no more than noise (paired t-test, 95 %)"
    return f"{reached}; {'gain' if one.gain > 0 else 'loss'} {gain}: more than noise (paired t-test, 95 %)"


def table_rows(baselines: Baselines) -> list[list[str]]:
    """Return a row of cells a depth, under `COLUMNS`."""
    return [
        [
            one.profile,
            str(one.num_pairs),
            _spread(one.adaptive),
            _spread(one.alone),
            f"{one.gain:+.4f}",
            "" if one.gain_error is None else f"{one.gain_error:.4f}",
        ]
        for one in baselines.comparisons
    ]


def describe_todo(trainings: Sequence[BaselineTraining], *, expected_s: float | None) -> str:
    """Return what will be trained, and about how long that takes where it is known."""
    if not trainings:
        return "baselines: all trainings of the comparison are there"
    duration = "" if expected_s is None else f", about {_duration(expected_s)} of training"
    return f"baselines: {len(trainings)} trainings{duration}: {'; '.join(map(str, trainings))}"


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + ("" if spread.std is None else f" ± {spread.std:.4f}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
