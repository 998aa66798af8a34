"""What a search was good for, in words: its winner against the job's own settings, and what it cost."""

import math
import statistics
from collections.abc import Sequence

from pipeline.config import Job
from pipeline.search_config import SearchConfig

from .result import SearchResult, TrialResult
from .score import TRADED


def describe_verdict(job: Job, result: SearchResult) -> list[str]:
    """Return sentences for the user.

    Args:
        job: Whose search it was.
        result: Of the search.
    """
    search = job.search
    if search is None:
        return []
    best, own = result.best, result.trials[0]
    lines = [f"best: trial {best.number + 1}, {search.objective} {best.score:.4f}"]
    if search.paper_first and own.outcome != "failed":
        gain = f"{best.score - own.score:+.4f} against the job's own settings (trial 1, {own.score:.4f})"
        lines[0] += ", which won" if best == own else f", {gain}, in one run each"
    if result.front:
        lines.append(describe_front(search, result))
    if result.repeats:
        lines.append(describe_repeats(result))
    epochs, planned = sum(trial.epochs for trial in result.trials), len(result.trials) * search.epochs
    worker_h = sum(trial.train_s for trial in (*result.trials, *result.repeats)) * job.training.workers / 3600
    lines.append(
        f"cost: {epochs} of the {planned} epochs of training every trial fully ({epochs / planned:.0%}), "
        f"{worker_h:.2g} worker-hours"
    )
    deleted_bytes = sum(trial.deleted_bytes for trial in (*result.trials, *result.repeats))
    if deleted_bytes:
        lines.append(f"deleted: {deleted_bytes / 2**20:.1f} MiB of checkpoints; only records of trials stay")
    if result.num_dropped:
        lines.append(f"dropped: {result.num_dropped} designs that no training brings within the budget")
    if result.importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importance.items())
        lines.append(f"what mattered (fANOVA): {shares}")
    return lines


def describe_front(search: SearchConfig, result: SearchResult) -> str:
    """Return the trials that no other one beats in all of what is traded off."""
    trials = [
        f"trial {trial.number + 1} ("
        + ", ".join(f"{trial.metrics[TRADED[name].metric]:.4f}" for name in search.pareto)
        + ")"
        for trial in result.trials
        if trial.number in result.front
    ]
    return (
        f"front of {', '.join(search.pareto)}: {'; '.join(trials)}; the best is the one with the highest "
        f"{search.objective}"
    )


def describe_repeats(result: SearchResult) -> str:
    """Return what the winner gains where both designs are trained again with new seeds."""
    own, best = _scores(result.repeats[0::2]), _scores(result.repeats[1::2])
    if min(len(own), len(best)) < 2:
        return f"again with new seeds: best {best}, own {own}; too few for a difference with its noise"
    gain = statistics.fmean(best) - statistics.fmean(own)
    error = math.sqrt(statistics.variance(own) / len(own) + statistics.variance(best) / len(best))
    return (
        f"again with {len(best)} new seeds: best {_spread(best)}, own {_spread(own)}; "
        f"difference {gain:+.4f} with a standard error of {error:.4f}"
    )


def _scores(trials: Sequence[TrialResult]) -> list[float]:
    return [round(trial.score, 4) for trial in trials if trial.outcome != "failed"]


def _spread(scores: Sequence[float]) -> str:
    return f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"
