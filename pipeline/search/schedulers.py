"""Ray Tune's schedulers, told again what earlier commands saw; `asha` is in `halving`."""

import math
from collections.abc import Iterable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from pipeline.search_config import SearchConfig
from pipeline.training.epochs import SCORE

from .halving import REDUCTION_FACTOR, Halving, HalvingScheduler
from .record import TrialRecord
from .trial import EPOCH, tune_result

NUM_BRACKETS = 3
"""Of Hyperband: a third each of the trials may be stopped from epoch 1, 2 and 4 on; chosen."""

MEDIAN_NEEDS = 3
"""Trials that must have come as far before the median stops any; Ray's default."""


def make_scheduler(
    search: SearchConfig, ended: Iterable[TrialRecord], halving: Halving | None
) -> TrialScheduler:
    """Return the scheduler of a sweep, which knows what trials that ended reported.

    Args:
        search: Which one, and the epochs of a trial.
        ended: Of earlier commands. Trials that go on report their epochs themselves.
        halving: Of `asha`, which knows them already.
    """
    if halving is not None:
        return HalvingScheduler(halving)
    scheduler = _make(search)
    for record in ended:
        trial = Trial("ended", stub=True, trial_id=record.trial_id)
        scheduler.on_trial_add(None, trial)
        for epoch in range(1, len(record.history) + 1):
            scheduler.on_trial_result(None, trial, tune_result(record.history[:epoch]))
        scheduler.on_trial_complete(None, trial, tune_result(record.history))
    return scheduler


def _make(search: SearchConfig) -> TrialScheduler:
    what: dict[str, Any] = {"time_attr": EPOCH, "metric": SCORE, "mode": "max"}
    # One more than there are, so that the last epoch of a good trial does not count as stopped.
    max_epochs = search.epochs + 1
    match search.scheduler:
        case "hyperband":
            return AsyncHyperBandScheduler(
                **what, max_t=max_epochs, reduction_factor=REDUCTION_FACTOR, brackets=NUM_BRACKETS
            )
        case "median":
            # Never pauses a trial: its workers would be given up and its epoch trained again.
            return MedianStoppingRule(
                **what, grace_period=1, min_samples_required=MEDIAN_NEEDS, min_time_slice=math.inf
            )
        case _:
            return FIFOScheduler()
