"""The sampler's memory: whatever ends a command, the next one draws what the first would have drawn."""

import math

import optuna
import pytest
from ray.tune.search import Searcher

from pipeline.errors import JobError
from pipeline.search.former import FormerTrial
from pipeline.search.halving import Halving
from pipeline.search.record import TrialRecord
from pipeline.search.searchers import StudySearcher
from pipeline.search.study import DROPPED, Designs, Study
from pipeline.search_config import SearchConfig
from pipeline.training.epochs import EpochReport

SAMPLERS = ["tpe", "gp", "nsga2", "random"]
PARETO = ["full_accuracy", "base_cost"]
NUM_TRIALS = 8


def draw(trial):
    return {"lr": trial.suggest_float("lr", 0.01, 1.0, log=True), "depth": trial.suggest_int("depth", 1, 9)}


def quality(design):
    """Return a made-up score with its best at lr 0.1 and depth 4."""
    return 1 / (1 + math.log10(design["lr"] * 10) ** 2 + (design["depth"] - 4) ** 2)


def open_study(
    storage,
    *,
    sampler="tpe",
    first=(),
    draw=draw,
    obstacle=lambda _design: None,
    rungs=(),
    pareto=(),
):
    return Study(
        SearchConfig(space="any", epochs=1, trials=NUM_TRIALS, sampler=sampler, pareto=pareto),
        seed=3,
        designs=Designs(draw=draw, point=dict, obstacle=obstacle),
        first=first,
        storage=storage,
        name="a-sweep",
        rungs=rungs,
    )


class Sweep:
    """What a driver holds beside a study: records, and the searcher over both."""

    def __init__(self, study, records=(), *, halving=None, room=lambda: NUM_TRIALS, gives_up=lambda: False):
        self.study = study
        self.records = {record.number: record for record in records}
        study.reconcile(self.records.values())
        self.searcher = StudySearcher(
            study,
            room=room,
            trials=NUM_TRIALS,
            records=self.records,
            halving=halving,
            gives_up=gives_up,
        )

    def end(self, trial_id, record):
        """Let a trial end, as the watcher does."""
        self.records[record.number] = record
        self.searcher.on_trial_complete(trial_id)

    def run(self, *, until=NUM_TRIALS):
        """Run trials one at a time; returns their configurations."""
        configs = []
        while len(configs) < until:
            config = self.searcher.suggest(f"t{len(configs)}")
            if config == Searcher.FINISHED:
                break
            self.end(f"t{len(configs)}", record_of(config))
            configs.append(config)
        self.study.reconcile(self.records.values())
        return configs


def record_of(config, *, outcome="finished"):
    score = quality(config["values"])
    metrics = {
        "score": score,
        "train/loss": 1.0,
        "full/top1": score,
        "base/cost": config["values"]["depth"] / 9,
    }
    history = (EpochReport(epoch=1, timestamp_ms=1, metrics=metrics),)
    return TrialRecord(f"id-{config['number']}", config["number"], 0, config["values"], history, outcome)


@pytest.fixture
def storage(tmp_path):
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture(scope="module", params=SAMPLERS)
def uninterrupted(request):
    return request.param, Sweep(open_study(optuna.storages.InMemoryStorage(), sampler=request.param)).run()


def test_every_number_gets_one_design(uninterrupted):
    assert [config["number"] for config in uninterrupted[1]] == list(range(NUM_TRIALS))
    assert len({str(config["values"]) for config in uninterrupted[1]}) == NUM_TRIALS


@pytest.mark.parametrize("until", [0, 1, 4, NUM_TRIALS])
def test_a_sweep_that_was_killed_goes_on_with_the_same_designs(uninterrupted, storage, until):
    sampler, configs = uninterrupted
    first = Sweep(open_study(storage, sampler=sampler))
    before = first.run(until=until)
    after = Sweep(open_study(storage, sampler=sampler), first.records.values()).run()
    assert before + after == configs


@pytest.mark.parametrize("until", [1, 4])
def test_a_study_that_was_lost_is_made_again_from_the_records(uninterrupted, storage, until):
    sampler, configs = uninterrupted
    records = [record_of(config) for config in configs[:until]]
    rest = Sweep(open_study(storage, sampler=sampler), records).run()
    assert [config["number"] for config in rest] == list(range(until, NUM_TRIALS))
    if sampler != "nsga2":  # whose generations are in the study alone, so it begins anew
        assert rest == configs[until:]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_design_is_trained_twice_as_long_as_there_are_others(storage, sampler):
    def draw_of_nine(trial):
        return {"lr": 0.1, "depth": trial.suggest_int("depth", 1, 9)}

    configs = Sweep(open_study(storage, sampler=sampler, draw=draw_of_nine)).run()
    assert len({config["values"]["depth"] for config in configs}) == NUM_TRIALS == 8


def test_designs_that_have_not_ended_come_first(storage):
    sweep = Sweep(open_study(storage))
    running = [sweep.searcher.suggest(trial_id) for trial_id in "abc"]
    sweep.end("b", record_of(running[1]))
    again = Sweep(open_study(storage), sweep.records.values())
    assert [again.searcher.suggest(trial_id) for trial_id in "de"] == [running[0], running[2]]
    assert again.searcher.suggest("f")["number"] == 3


def test_a_trial_whose_end_the_study_did_not_hear_of_is_not_handed_out_again(storage):
    config = Sweep(open_study(storage)).searcher.suggest("a")
    sweep = Sweep(open_study(storage), [record_of(config)])
    assert sweep.searcher.suggest("b")["number"] == 1
    assert sweep.study.optuna.trials[0].value == pytest.approx(quality(config["values"]))


def test_a_trial_whose_end_the_study_alone_heard_of_is_handed_out_again_and_told_once(storage):
    (config,) = Sweep(open_study(storage)).run(until=1)
    sweep = Sweep(open_study(storage), [record_of(config, outcome=None)])
    assert sweep.searcher.suggest("b") == config
    sweep.end("b", record_of(config))
    sweep.study.reconcile(sweep.records.values())
    assert [trial.value for trial in sweep.study.optuna.trials] == [pytest.approx(quality(config["values"]))]


def test_trials_that_wait_come_back_when_they_have_a_place_and_are_not_taken_for_cut_off(storage):
    def open_halving(records=()):
        halving = Halving(trials=NUM_TRIALS, epochs=2)
        for record in records:
            halving.learn(record)
        return halving

    halving = open_halving()
    sweep = Sweep(open_study(storage, rungs=halving.rungs), halving=halving)
    config = sweep.searcher.suggest("a")
    waiting = record_of(config, outcome=None)
    assert not halving.report(waiting.number, waiting.history)
    sweep.end("a", waiting)
    records = [waiting]
    halving = open_halving(records)
    again = Sweep(open_study(storage, rungs=halving.rungs), records, halving=halving)
    other = again.searcher.suggest("b")
    assert other["number"] == 1
    worse = TrialRecord("b", 1, 0, other["values"], (), None).with_history(
        (EpochReport(epoch=1, timestamp_ms=1, metrics={"score": 0.0, "train/loss": 1.0}),)
    )
    assert not halving.report(worse.number, worse.history)
    again.end("b", worse)
    assert again.searcher.suggest("c") == config


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_several_values_are_traded_off_and_a_kill_changes_nothing(storage, sampler):
    whole = Sweep(open_study(optuna.storages.InMemoryStorage(), sampler=sampler, pareto=PARETO)).run()
    first = Sweep(open_study(storage, sampler=sampler, pareto=PARETO))
    before = first.run(until=5)
    study = open_study(storage, sampler=sampler, pareto=PARETO)
    assert before + Sweep(study, first.records.values()).run() == whole
    assert [direction.name for direction in study.optuna.directions] == ["MAXIMIZE", "MINIMIZE"]
    design = whole[0]["values"]
    assert study.optuna.trials[0].values == [pytest.approx(quality(design)), design["depth"] / 9]
    values = [(quality(config["values"]), -config["values"]["depth"]) for config in whole]
    assert study.front() == tuple(
        number
        for number, (score, cost) in enumerate(values)
        if not any(a >= score and b >= cost and (a, b) != (score, cost) for a, b in values)
    )


def test_a_genetic_sampler_knows_its_generations(storage):
    study = open_study(storage, sampler="nsga2", pareto=PARETO)
    Sweep(study).run()
    generations = {trial.system_attrs.get("NSGAIISampler:generation") for trial in study.optuna.trials}
    assert len(generations - {None}) > 1


def test_a_failure_is_the_worst_in_all_that_is_traded_off(storage):
    sweep = Sweep(open_study(storage, pareto=PARETO))
    sweep.end("a", record_of(sweep.searcher.suggest("a"), outcome="failed"))
    sweep.study.reconcile(sweep.records.values())
    assert sweep.study.optuna.trials[0].values == [0.0, 1.0]


def test_nodes_that_join_are_used_and_those_that_leave_are_not_counted_on(storage):
    nodes = [1]
    sweep = Sweep(open_study(storage), room=lambda: len(nodes))
    first = sweep.searcher.suggest("a")
    assert first["number"] == 0
    assert sweep.searcher.suggest("b") is None
    nodes.append(1)
    assert sweep.searcher.suggest("b")["number"] == 1
    nodes.clear()
    sweep.end("a", record_of(first))
    assert sweep.searcher.suggest("c") is None


def test_a_search_waits_for_what_runs_before_it_says_that_it_is_over(storage):
    halving = Halving(trials=NUM_TRIALS, epochs=2)
    sweep = Sweep(open_study(storage, rungs=halving.rungs), halving=halving, room=lambda: 2 * NUM_TRIALS)
    for number in range(NUM_TRIALS):
        sweep.searcher.suggest(f"t{number}")
    assert sweep.searcher.suggest("more") is None
    for number in range(NUM_TRIALS):
        sweep.searcher.on_trial_complete(f"t{number}")
    assert sweep.searcher.suggest("more") == Searcher.FINISHED


def test_the_first_designs_are_given_and_a_kill_among_them_loses_none(storage):
    first = [{"lr": 0.1, "depth": 4}, {"lr": 0.2, "depth": 5}, {"lr": 0.3, "depth": 6}]
    sweep = Sweep(open_study(storage, first=first))
    sweep.run(until=1)
    rest = Sweep(open_study(storage, first=first), sweep.records.values()).run()
    assert [config["values"] for config in rest[:2]] == first[1:]
    assert len(rest) == NUM_TRIALS - 1


def test_designs_with_an_obstacle_are_dropped_and_cost_no_trial(storage):
    study = open_study(storage, obstacle=lambda design: "too deep" if design["depth"] > 4 else None)
    configs = Sweep(study).run()
    assert len(configs) == NUM_TRIALS
    assert max(config["values"]["depth"] for config in configs) <= 4
    dropped = [trial for trial in study.optuna.trials if DROPPED in trial.user_attrs]
    assert len(dropped) == study.num_dropped() > 0
    assert {trial.user_attrs[DROPPED] for trial in dropped} == {"too deep"}


def test_a_search_in_which_every_design_is_dropped_ends_with_the_reason():
    study = open_study(
        optuna.storages.InMemoryStorage(), sampler="random", obstacle=lambda _design: "too deep"
    )
    with pytest.raises(
        JobError, match="1000 in a row were dropped, the last because too deep; raise the budget"
    ):
        study.draw(0)


def test_a_search_that_gives_up_hands_out_no_more(storage):
    sweep = Sweep(open_study(storage), gives_up=lambda: True)
    assert sweep.searcher.suggest("a") == Searcher.FINISHED


def test_a_trial_that_broke_is_the_worst(storage):
    sweep = Sweep(open_study(storage))
    sweep.end("a", record_of(sweep.searcher.suggest("a"), outcome="failed"))
    sweep.study.reconcile(sweep.records.values())
    assert sweep.study.optuna.trials[0].value == 0.0


def test_trials_of_another_search_are_known_to_the_sampler_once_and_get_no_number(storage):
    former = [FormerTrial(f"old/{n}", {"lr": 0.1, "depth": n}, [n / 10]) for n in (1, 2, 3)]
    for _ in range(2):
        study = open_study(storage)
        study.learn(former)
    assert [trial.value for trial in study.optuna.trials] == [0.1, 0.2, 0.3]
    assert Sweep(study).searcher.suggest("a")["number"] == 0


def test_importance_names_what_moved_the_score(storage):
    study = open_study(storage)
    assert study.importance([]) == {}
    study.learn(
        [FormerTrial(f"old/{n}", {"lr": 0.1 + n / 100, "depth": n % 4 + 1}, [n % 4]) for n in range(12)]
    )
    importance = study.importance([])
    assert next(iter(importance)) == "depth"
    assert sum(importance.values()) == pytest.approx(1.0)
