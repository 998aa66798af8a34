"""What a search was good for, in words: its winner against the job's own settings, and what it cost."""

from pipeline.config import Job

from .result import SearchResult


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
    epochs, planned = sum(trial.epochs for trial in result.trials), len(result.trials) * search.epochs
    worker_h = sum(trial.train_s for trial in result.trials) * job.training.workers / 3600
    lines.append(
        f"cost: {epochs} of the {planned} epochs of training every trial fully ({epochs / planned:.0%}), "
        f"{worker_h:.2g} worker-hours"
    )
    if result.num_dropped:
        lines.append(f"dropped: {result.num_dropped} designs that no training brings within the budget")
    if result.importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importance.items())
        lines.append(f"what mattered (fANOVA): {shares}")
    return lines
