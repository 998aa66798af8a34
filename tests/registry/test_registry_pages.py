"""What people find in MLflow's pages: a table, curves, names that sort, and the texts that they wrote."""

import json
import random
from dataclasses import fields, replace

import pytest
from PIL import Image

from pipeline.config import parse_job
from pipeline.evaluation.table import ProfileResult
from pipeline.registry import tags
from pipeline.registry.metric_names import shown_metrics
from pipeline.registry.outbox import Outbox
from pipeline.registry.profile_curves import TABLE_FILE, steps_of
from pipeline.registry.register import RegisteredVersion
from pipeline.registry.run_description import Conclusion, describe_conclusion, describe_job
from pipeline.registry.store import current_store
from pipeline.registry.tracking import JobRun
from pipeline.reporter import Silent
from pipeline.reporting import TrialLog, trial_run_name

DESIGN = {"split": [2, 1, 2, 1], "training.lr": 0.1234, "distillation.alpha": 0.5}
JOB = {
    "name": "job",
    "data": {"train": "builtin:digits", "image_size": 16},
    "backbone": {"name": "resnet18"},
    "training": {"epochs": 3},
    "search": {"space": "resnet", "trials": 50, "epochs": 2},
    "registry": {"model": "net"},
}
EPOCH = {
    "full/top1": 0.5,
    "base/top1": 0.4,
    "train/loss": 1.0,
    "base/cost": 0.6,
    "ema/base/cost": 0.6,
    "score": 0.3,
    "epoch_s": 1.0,
}


@pytest.fixture
def table(table):
    """Costs that differ: every skipped stage saves a tenth."""
    rows = [replace(row, macs=1000 - 100 * row.profile.count("T")) for row in table.results]
    return replace(table, results=tuple(rows))


def load_table(client, run):
    with current_store(client):
        return client.load_table(run.experiment_id, TABLE_FILE, run_ids=[run.run_id])


def tell_trials(run, numbers, *, outcome="finished", cause=None):
    with Outbox(Silent()) as outbox:
        log = TrialLog(run, outbox, Silent(), trials=50, epochs=1)
        for number in numbers:
            log.on_start(f"t{number}", number, DESIGN)
            log.on_epoch(f"t{number}", EPOCH, epoch=1, timestamp_ms=1_700_000_000_000)
            log.on_end(f"t{number}", outcome, cause)
        outbox.ask(lambda: None)


def nested(client, run):
    found = client.search_runs([run.experiment_id], f"tags.`{tags.PARENT_RUN}` = '{run.run_id}'")
    return {trial.info.run_name: trial.data for trial in found}


def note(client, run):
    return client.get_run(run.run_id).data.tags[tags.NOTE]


def test_the_logged_table_is_read_back_by_mlflow_and_equals_the_profile_table(register, client, run, table):
    register(table=table)
    read = load_table(client, run)
    for name in (field.name for field in fields(ProfileResult) if field.name != "top5"):
        # pandas reads a number from text with an error in the last digit.
        assert read[name].tolist() == pytest.approx([getattr(row, name) for row in table.results])


def test_a_table_logged_twice_is_there_once(run, client):
    for values in ([1, 2], [3, 4]):
        run.log_table({"profile": ["F", "T"], "value": values}, TABLE_FILE)
    run.log_table({"other": [1]}, "other.json")
    assert load_table(client, run)["value"].tolist() == [3, 4]
    listed = json.loads(client.get_run(run.run_id).data.tags[tags.LOGGED_ARTIFACTS])
    assert [entry["path"] for entry in listed] == [TABLE_FILE, "other.json"]


def test_a_measure_is_one_curve_from_the_cheapest_profile_to_the_whole_network(register, client, run, table):
    register(table=table)
    curve = {point.step: point.value for point in client.get_metric_history(run.run_id, "profiles/top1")}
    assert curve == {step: row.top1 for step, row in zip(steps_of(table), table.results, strict=True)}
    assert (curve[1], curve[16]) == (table.base.top1, table.full.top1)
    costs = [point.value for point in client.get_metric_history(run.run_id, "profiles/macs")]
    assert sorted(costs) == sorted(row.macs for row in table.results)


def test_profiles_that_cost_the_same_have_steps_of_their_own(table):
    assert sorted(steps_of(table)) == list(range(1, 17))


def test_metrics_of_both_weights_lie_beside_the_better_ones():
    told = {"full/top1": 0.5, "raw/full/top1": 0.4, "ema/full/top1": 0.5, "raw/score": 0.1, "score": 0.2}
    costs = {"base/cost": 0.6, "raw/base/cost": 0.6, "ema/base/cost": 0.6}
    assert shown_metrics({**told, **costs}) == {
        "full/top1": 0.5,
        "full/top1_raw": 0.4,
        "full/top1_ema": 0.5,
        "score_raw": 0.1,
        "score": 0.2,
        "base/cost": 0.6,
    }


@pytest.mark.parametrize("trials", [8, 50, 1000])
def test_names_of_trials_and_repeats_sort_in_their_order(trials):
    draw = random.Random(0)
    names = [
        trial_run_name(number, {**DESIGN, "training.lr": draw.uniform(0.01, 0.5)}, trials=trials)
        for number in range(trials + 20)
    ]
    assert sorted(names) == names[trials:] + names[:trials]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (DESIGN, "trial 07 · 2,1,2,1 · lr 0.12"),
        ({"backbone.name": "resnet34", "split": "paper"}, "trial 07 · resnet34 · paper"),
        ({"distillation.alpha": 0.5}, "trial 07"),
    ],
)
def test_a_trial_is_named_by_what_tells_it_apart(values, name):
    assert trial_run_name(6, values, trials=50) == name


def test_runs_of_trials_tell_kind_split_and_outcome(run, client):
    tell_trials(run, [6])
    tell_trials(run, [50], outcome="failed", cause="loss must stay finite, got nan")
    found = nested(client, run)
    assert list(found) == ["repeat 01 · 2,1,2,1 · lr 0.12", "trial 07 · 2,1,2,1 · lr 0.12"]
    repeat, trial = found.values()
    shown = ("skipline.kind", "skipline.split", "skipline.outcome")
    assert [trial.tags[tag] for tag in shown] == ["trial", "2,1,2,1", "finished"]
    assert [repeat.tags[tag] for tag in shown] == ["repeat", "2,1,2,1", "failed"]
    assert repeat.tags[tags.NOTE] == "loss must stay finite, got nan"
    assert trial.metrics == {name: value for name, value in EPOCH.items() if name != "ema/base/cost"}


def test_trials_told_of_twice_are_there_once(run, client):
    for _ in range(2):
        tell_trials(run, [0, 1])
    assert len(nested(client, run)) == 2


def test_a_second_job_of_a_name_is_told_apart(run, client, experiment_id):
    other = JobRun.open(client, experiment_id, name="job", key="0123456789ab", params={}, tags={})
    assert client.get_run(run.run_id).info.run_name == "job"
    assert client.get_run(other.run_id).info.run_name == "job · 012345"


def test_a_run_says_who_started_it_and_names_no_path(client, monkeypatch, experiment_id):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    started = JobRun.open(client, experiment_id, name="mine", key="mine", params={}, tags={})
    told = client.get_run(started.run_id).data.tags
    assert (told[tags.USER], told[tags.SOURCE_NAME]) == ("ada", "skipline")


def test_a_description_of_ours_is_renewed(client, experiment_id):
    run = JobRun.open(
        client, experiment_id, name="j", key="k", params={}, tags={}, description="it has begun"
    )
    assert note(client, run) == "it has begun"
    run.describe("it is done", {tags.SPLIT: "1,1"})
    run.describe("it is done, again", {})
    assert note(client, run) == "it is done, again"


def test_a_description_of_the_users_is_never_overwritten(run, client):
    run.describe("ours", {})
    client.set_tag(run.run_id, tags.NOTE, "theirs")
    run.describe("ours, anew", {tags.SPLIT: "1,1"})
    assert note(client, run) == "theirs"
    assert client.get_run(run.run_id).data.tags[tags.SPLIT] == "1,1"


def test_a_models_description_is_written_unless_there_is_one(register, client):
    register()
    assert "models:/net@champion" in client.get_registered_model("net").description
    client.update_registered_model("net", "theirs")
    register(key="key-2")
    assert client.get_registered_model("net").description == "theirs"


def test_a_versions_description_says_what_it_is_and_how_to_predict(register, client, table):
    registered = register(table=table)
    text = client.get_model_version("net", "1").description
    assert text.startswith(
        "Top-1 0.3333 (full) to 0.0556 (base, 60% of the MACs): resnet18 at 16 depths with one set of "
        "weights, split 1,1,1,1, from the job job.\n"
    )
    assert f'load_model("models:/{registered.model_id}")' in text
    assert client.get_logged_model(registered.model_id).tags[tags.NOTE] == text


def test_the_call_that_a_version_describes_is_within_its_budget(register, client, table):
    rows = [replace(row, macs=row.macs * 123_457, is_pareto=row.profile == "TTFF") for row in table.results]
    register(table=replace(table, results=tuple(rows)))
    text = client.get_model_version("net", "1").description
    assert 'params={"profile": "TTFF"}' in text
    assert 'params={"max_macs": 99e6}' in text  # 98.8 million


def test_the_code_that_a_version_describes_runs(register, client, table, tmp_path, monkeypatch):
    register(table=table)
    _, code, _ = client.get_model_version("net", "1").description.split("```")
    Image.new("RGB", (16, 16)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    with current_store(client):
        told = {}
        exec(code.removeprefix("python"), told)
        assert told["model"].predict(told["images"], params={"profile": "base"}).shape == (1, 3)


def test_a_jobs_description_tells_first_that_it_runs_and_then_what_came_of_it(table):
    job = parse_job(JOB)
    assert "has not ended yet" in describe_job(job)
    version = RegisteredVersion("net", 3, "models:/net/3", "m-1")
    chosen = replace(table, choices=("trial", "epoch"))
    end = Conclusion(version, chosen, (1, 1, 1, 1), "trial 07 · 2,1,2,1", "report.html")
    first, links, facts, *_ = describe_conclusion(job, end, experiment_id="5", run_id="abc").split("\n\n")
    assert first == (
        "**Top-1 0.3333 (full) to 0.0556 (base, 60% of the MACs)** on 30 validation images that also chose "
        "the trial and the epoch"
    )
    assert "(#/models/net/versions/3)" in links
    assert "(#/experiments/5/runs/abc/artifacts/report.html)" in links
    assert "- search: 50 trials of 2 epochs at most in resnet, by hypervolume" in facts
    assert "- network: split 1,1,1,1, of trial 07 · 2,1,2,1" in facts
