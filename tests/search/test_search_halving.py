"""Successive halving: what is bounded, who goes on, and that a kill changes nothing."""

import random

import pytest
from ray.tune.experiment import Trial

from pipeline.search.halving import Halving, HalvingScheduler, rungs_of
from pipeline.search.record import TrialRecord
from pipeline.search.trial import tune_result
from pipeline.training.epochs import EpochReport

EPOCHS, TRIALS = 6, 16


def record_of(number, curve, outcome=None):
    history = tuple(
        EpochReport(epoch=epoch, timestamp_ms=1, metrics={"score": score, "train/loss": 1.0})
        for epoch, score in enumerate(curve, start=1)
    )
    return TrialRecord(f"t{number}", number, 0, {}, history, outcome)


def curves_of(kind, *, seed=0):
    """Return a curve for every trial, with its end above its beginning."""
    generator = random.Random(seed)
    ends = [generator.random() for _ in range(TRIALS)]
    ends = {"mixed": ends, "improving": sorted(ends), "worsening": sorted(ends, reverse=True)}[kind]
    return [[end * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)] for end in ends]


class Sweep:
    """Trials one at a time, as the driver runs them; what is stored is `records`."""

    def __init__(self, curves, *, exempt=(0,)):
        self.curves, self.exempt = curves, exempt
        self.records = {}
        self.trained = []

    def run(self, *, until=10**9, failing=()):
        """Run until so many epochs have been trained."""
        halving = Halving(trials=TRIALS, epochs=EPOCHS, exempt=self.exempt)
        for record in self.records.values():
            halving.learn(record)
        cut_off = [n for n in self.records if self.records[n].outcome is None and not halving.waits(n)]
        while len(self.trained) < until:
            number = cut_off.pop(0) if cut_off else halving.resume()
            if number is None and len(self.records) < TRIALS:
                number = len(self.records)
            if number is None:
                number = halving.resume_leader()
            if number is None:
                break
            self._run_one(halving, number, until, failing)
        self.halving = halving
        return self

    def _run_one(self, halving, number, until, failing):
        record = self.records.get(number, record_of(number, []))
        while len(record.history) < EPOCHS and len(self.trained) < until:
            self.trained.append((number, len(record.history) + 1))
            record = record_of(number, self.curves[number][: len(record.history) + 1])
            if number in failing and len(record.history) == 2:
                halving.end(number, has_failed=True)
                self.records[number] = record_of(number, self.curves[number][:2], "failed")
                return
            self.records[number] = record
            if not halving.report(number, record.history):
                return
        if len(record.history) == EPOCHS:
            self.records[number] = record_of(number, self.curves[number], "finished")

    @property
    def lengths(self):
        return [len(self.records[number].history) for number in range(TRIALS)]


def test_rungs_double_and_end_before_the_last_epoch():
    assert [rungs_of(epochs) for epochs in (1, 2, 3, 6, 8, 9)] == [
        (),
        (1,),
        (1, 2),
        (1, 2, 4),
        (1, 2, 4),
        (1, 2, 4, 8),
    ]


@pytest.mark.parametrize("kind", ["mixed", "improving", "worsening"])
def test_half_of_those_that_came_to_a_rung_go_on_whatever_their_order(kind):
    lengths = Sweep(curves_of(kind), exempt=()).run().lengths
    counts = [sum(length > rung for length in lengths) for rung in (0, 1, 2, 4)]
    assert counts == [16, 8, 4, 2]
    assert sum(lengths) == 36  # of 96


def test_who_leads_goes_on_though_all_places_had_gone_before_it_came():
    curves = curves_of("mixed")
    curves[15] = [2.0 * score for score in max(curves)]
    sweep = Sweep(curves).run()
    counts = [sum(length > rung for length in sweep.lengths[1:]) for rung in (0, 1, 2, 4)]
    assert sweep.lengths[15] == EPOCHS
    assert counts == [15, 8, 4, 2]  # the places alone would be 15, 7, 3, 1
    assert sweep.trained[-5:] == [(15, epoch) for epoch in (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("kind", ["mixed", "improving", "worsening"])
@pytest.mark.parametrize("seed", range(5))
def test_a_search_costs_less_than_half_of_training_every_trial_fully(kind, seed):
    assert 36 <= sum(Sweep(curves_of(kind, seed=seed)).run().lengths) <= 41  # of 96


@pytest.mark.parametrize("kind", ["mixed", "improving", "worsening"])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_trial_is_trained_to_the_end(kind, seed):
    curves = curves_of(kind, seed=seed)
    lengths = Sweep(curves, exempt=()).run().lengths
    best = max(range(TRIALS), key=lambda number: curves[number][-1])
    assert lengths[best] == EPOCHS


def test_an_exempt_trial_goes_on_and_takes_no_place():
    lengths = Sweep(curves_of("worsening"), exempt=(15,)).run().lengths  # trial 15 is the worst
    assert lengths[15] == EPOCHS
    assert [sum(length > rung for length in lengths[:15]) for rung in (0, 1, 2, 4)] == [15, 7, 3, 1]


@pytest.mark.parametrize("until", range(0, 40, 3))
def test_a_sweep_that_was_killed_trains_what_it_would_have_trained(until):
    whole = Sweep(curves_of("mixed")).run()
    cut = Sweep(curves_of("mixed"))
    cut.run(until=until)
    assert cut.run().trained == whole.trained
    assert len(set(whole.trained)) == len(whole.trained)


@pytest.mark.parametrize("failing", [(), (3, 4, 9)])
def test_in_the_end_nobody_can_get_a_place(failing):
    sweep = Sweep(curves_of("improving")).run(failing=failing)
    assert not any(sweep.halving.may_go_on(number) for number in range(TRIALS))
    assert [record.outcome for record in sweep.records.values()].count("finished") >= 2


def test_a_trial_waits_only_as_long_as_it_may_get_a_place():
    halving = Halving(trials=4, epochs=2)
    for number, score in enumerate([0.3, 0.2, 0.1]):
        halving.report(number, record_of(number, [score]).history)
    # Two of four will go on, and the fourth is still to come.
    assert [halving.may_go_on(number) for number in range(3)] == [True, True, False]
    halving.report(3, record_of(3, [0.25]).history)
    assert [halving.may_go_on(number) for number in range(4)] == [True, False, False, True]
    assert [halving.resume(), halving.resume(), halving.resume()] == [0, 3, None]


def test_who_has_ended_never_comes_back():
    """Its checkpoint is gone; not even when those that were better fail."""
    halving = Halving(trials=2, epochs=4)
    assert not halving.report(0, record_of(0, [0.9]).history)
    assert not halving.report(1, record_of(1, [0.5]).history)
    assert halving.resume() == 0
    assert halving.hopeless() == {1}
    halving.end(1, has_failed=False)
    halving.end(0, has_failed=True)
    assert (halving.resume(), halving.resume_leader(), halving.waits(1)) == (None, None, False)


def test_the_scheduler_stops_who_has_to_wait_and_lets_a_failure_end_by_itself():
    scheduler = HalvingScheduler(Halving(trials=4, epochs=2))

    def tell(number, score, failure=None):
        trial = Trial("any", stub=True, config={"number": number})
        return scheduler.on_trial_result(
            None, trial, tune_result(record_of(number, [score]).history, failure=failure)
        )

    assert [tell(0, 0.1), tell(1, 0.2), tell(2, 0.9), tell(3, 0.5)] == ["STOP", "CONTINUE", "STOP", "STOP"]
    assert tell(2, 0.9, failure="broke") == "CONTINUE"
