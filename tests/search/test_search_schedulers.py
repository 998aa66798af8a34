"""Early stopping: the same decisions, whatever came between."""

import numpy as np
import pytest
from ray.tune.experiment import Trial

from pipeline.search.record import TrialRecord
from pipeline.search.schedulers import make_scheduler
from pipeline.search.trial import tune_result
from pipeline.search_config import SearchConfig
from pipeline.training.epochs import EpochReport

EPOCHS = 8
CURVES = [
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3],
    [0.2, 0.3, 0.3, 0.3, 0.3, 0.4, 0.4, 0.4],
    [0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9],
    [0.1, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9],
]


def search(scheduler):
    return SearchConfig(space="any", epochs=EPOCHS, scheduler=scheduler)


def record_of(number, curve):
    history = tuple(
        EpochReport(epoch=epoch, timestamp_ms=1, metrics={"score": score, "train/loss": 1.0})
        for epoch, score in enumerate(curve, start=1)
    )
    return TrialRecord(f"t{number}", number, 0, {}, history, "finished")


def run_trials(scheduler, numbers):
    """Run trials one after the other; returns a record of each, cut where the scheduler stopped it."""
    records = []
    for number in numbers:
        trial, record = Trial("any", stub=True), record_of(number, CURVES[number])
        scheduler.on_trial_add(None, trial)
        for epoch in range(1, EPOCHS + 1):
            if scheduler.on_trial_result(None, trial, tune_result(record.history[:epoch])) != "CONTINUE":
                break
        scheduler.on_trial_complete(None, trial, tune_result(record.history[:epoch]))
        records.append(record_of(number, CURVES[number][:epoch]))
    return records


@pytest.mark.parametrize("scheduler", ["median"])
@pytest.mark.parametrize("cut", range(1, len(CURVES)))
def test_a_sweep_that_goes_on_stops_what_it_would_have_stopped(scheduler, cut):
    whole = run_trials(make_scheduler(search(scheduler), [], None), range(len(CURVES)))
    before = whole[:cut]
    after = run_trials(make_scheduler(search(scheduler), before, None), range(cut, len(CURVES)))
    assert before + after == whole


@pytest.mark.parametrize("scheduler", ["median", "hyperband"])
def test_a_scheduler_stops_some_trials_and_never_the_best(scheduler):
    np.random.seed(0)
    records = run_trials(make_scheduler(search(scheduler), [], None), range(len(CURVES)))
    assert sum(len(record.history) for record in records) < EPOCHS * len(CURVES)
    assert len(records[4].history) == EPOCHS


def test_none_stops_nothing():
    records = run_trials(make_scheduler(search("none"), [], None), range(len(CURVES)))
    assert {len(record.history) for record in records} == {EPOCHS}
