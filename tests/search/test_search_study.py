"""The sampler's memory: whatever ends a command, the next one draws what the first would have drawn."""

import math

import optuna
import pytest
from ray.tune.search import Searcher

from pipeline.config import SearchConfig
from pipeline.errors import JobError
from pipeline.search.former import FormerTrial
from pipeline.search.record import TrialRecord
from pipeline.search.study import DROPPED, Designs, Study, StudySearcher
from pipeline.training.checkpoint import EpochReport

SAMPLERS = ["tpe", "gp", "random"]
NUM_TRIALS = 8


def draw(trial):
    return {"lr": trial.suggest_float("lr", 0.01, 1.0, log=True), "depth": trial.suggest_int("depth", 1, 9)}


def quality(design):
    """Return a made-up score with its best at lr 0.1 and depth 4."""
    return 1 / (1 + math.log10(design["lr"] * 10) ** 2 + (design["depth"] - 4) ** 2)


def open_study(storage, *, sampler="tpe", first=(), obstacle=lambda _design: None, concurrency=1):
    return Study(
        SearchConfig(space="any", epochs=1, trials=NUM_TRIALS, sampler=sampler),
        seed=3,
        designs=Designs(draw=draw, point=dict, obstacle=obstacle),
        first=first,
        storage=storage,
        name="a-sweep",
        concurrency=concurrency,
    )


def searcher_of(study, *, ended=(), gives_up=lambda: False):
    return StudySearcher(study, trials=NUM_TRIALS, ended=ended, gives_up=gives_up)


def record_of(config, *, outcome="finished"):
    score = quality(config["values"])
    history = (EpochReport(epoch=1, timestamp_ms=1, metrics={"score": score, "train/loss": 1.0}),)
    return TrialRecord(f"id-{config['number']}", config["number"], 0, config["values"], history, outcome)


def run_on(searcher, *, until=NUM_TRIALS):
    """Run trials one at a time; returns their configurations."""
    configs = []
    while len(configs) < until and (config := searcher.suggest(f"t{len(configs)}")) != Searcher.FINISHED:
        searcher.on_trial_complete(f"t{len(configs)}", {"score": quality(config["values"])})
        configs.append(config)
    return configs


@pytest.fixture
def storage(tmp_path):
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture(scope="module", params=SAMPLERS)
def uninterrupted(request):
    return request.param, run_on(
        searcher_of(open_study(optuna.storages.InMemoryStorage(), sampler=request.param))
    )


def test_every_number_gets_one_design(uninterrupted):
    assert [config["number"] for config in uninterrupted[1]] == list(range(NUM_TRIALS))
    assert len({str(config["values"]) for config in uninterrupted[1]}) == NUM_TRIALS


@pytest.mark.parametrize("until", [0, 1, 4, NUM_TRIALS])
def test_a_sweep_that_was_killed_goes_on_with_the_same_designs(uninterrupted, storage, until):
    sampler, configs = uninterrupted
    before = run_on(searcher_of(open_study(storage, sampler=sampler)), until=until)
    after = run_on(searcher_of(open_study(storage, sampler=sampler), ended=range(until)))
    assert before + after == configs


@pytest.mark.parametrize("until", [1, 4])
def test_a_study_that_was_lost_is_made_again_from_the_records(uninterrupted, storage, until):
    sampler, configs = uninterrupted
    study = open_study(storage, sampler=sampler)
    study.reconcile([record_of(config) for config in configs[:until]])
    assert run_on(searcher_of(study, ended=range(until))) == configs[until:]


def test_designs_that_have_not_ended_come_first(storage):
    searcher = searcher_of(open_study(storage, concurrency=2))
    running = [searcher.suggest(trial_id) for trial_id in "abc"]
    searcher.on_trial_complete("b", {"score": 0.5})
    again = searcher_of(open_study(storage, concurrency=2), ended={1})
    assert [again.suggest(trial_id) for trial_id in "de"] == [running[0], running[2]]
    assert again.suggest("f")["number"] == 3


def test_a_trial_whose_end_the_study_did_not_hear_of_is_not_handed_out_again(storage):
    config = searcher_of(open_study(storage)).suggest("a")
    study = open_study(storage)
    study.reconcile([record_of(config)])
    assert searcher_of(study, ended={0}).suggest("b")["number"] == 1
    assert study.optuna.trials[0].value == pytest.approx(quality(config["values"]))


def test_a_trial_whose_end_the_study_alone_heard_of_is_handed_out_again_and_told_once(storage):
    (config,) = run_on(searcher_of(open_study(storage)), until=1)
    study = open_study(storage)
    study.reconcile([record_of(config, outcome=None)])
    again = searcher_of(study)
    assert again.suggest("b") == config
    again.on_trial_complete("b", {"score": 0.9})
    assert [trial.value for trial in study.optuna.trials] == [pytest.approx(quality(config["values"]))]


def test_a_design_that_never_got_its_number_is_drawn_again(storage):
    study = open_study(storage)
    study.optuna.ask()
    study.reconcile([])
    assert searcher_of(study).suggest("a")["number"] == 0
    assert study.optuna.trials[0].state == optuna.trial.TrialState.FAIL


def test_the_first_designs_are_given_and_a_kill_among_them_loses_none(storage):
    first = [{"lr": 0.1, "depth": 4}, {"lr": 0.2, "depth": 5}, {"lr": 0.3, "depth": 6}]
    run_on(searcher_of(open_study(storage, first=first)), until=1)
    rest = run_on(searcher_of(open_study(storage, first=first), ended={0}))
    assert [config["values"] for config in rest[:2]] == first[1:]
    assert len(rest) == NUM_TRIALS - 1


def test_designs_with_an_obstacle_are_dropped_and_cost_no_trial(storage):
    study = open_study(storage, obstacle=lambda design: "too deep" if design["depth"] > 4 else None)
    configs = run_on(searcher_of(study))
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
    searcher = searcher_of(open_study(storage), gives_up=lambda: True)
    assert searcher.suggest("a") == Searcher.FINISHED


@pytest.mark.parametrize(("result", "error"), [(None, True), ({"score": 0.9}, True)])
def test_a_trial_that_broke_is_the_worst(storage, result, error):
    study = open_study(storage)
    searcher = searcher_of(study)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result, error=error)
    assert study.optuna.trials[0].value == 0.0


def test_trials_of_another_search_are_known_to_the_sampler_once_and_get_no_number(storage):
    former = [FormerTrial(f"old/{n}", {"lr": 0.1, "depth": n}, n / 10) for n in (1, 2, 3)]
    for _ in range(2):
        study = open_study(storage)
        study.learn(former)
    assert [trial.value for trial in study.optuna.trials] == [0.1, 0.2, 0.3]
    assert searcher_of(study).suggest("a")["number"] == 0


def test_importance_names_what_moved_the_score(storage):
    study = open_study(storage)
    assert study.importance() == {}
    study.learn(
        [FormerTrial(f"old/{n}", {"lr": 0.1 + n / 100, "depth": n % 4 + 1}, n % 4) for n in range(12)]
    )
    importance = study.importance()
    assert next(iter(importance)) == "depth"
    assert sum(importance.values()) == pytest.approx(1.0)
