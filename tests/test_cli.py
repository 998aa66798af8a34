"""The command line as a user meets it: its output, its exit code."""

import json
import subprocess
import sys

import pytest
import typer
import yaml

from pipeline.cli import app
from pipeline.config import load_job
from tests.digits_job import JOB


@pytest.fixture
def process(tmp_path):
    """Runs `skipline` in an empty folder, as a process of its own."""

    def run(*arguments):
        command = [sys.executable, "-m", "pipeline", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def skipline(monkeypatch, tmp_path, invoke):
    """Runs `skipline` in an empty folder, in this process, which has imported what takes seconds."""
    monkeypatch.chdir(tmp_path)
    return invoke


def test_help_names_every_verb(process):
    printed = process("--help").stdout
    verbs = (
        "run",
        "tune",
        "train",
        "evaluate",
        "register",
        "profiles",
        "backbones",
        "inspect",
        "space",
        "init",
        "schema",
    )
    assert [verb for verb in verbs if f" {verb} " not in printed] == []


def test_every_verb_that_answers_something_answers_machines():
    verbs = typer.main.get_command(app).commands
    silent = {
        name for name, verb in verbs.items() if "--json" not in {o for p in verb.params for o in p.opts}
    }
    # A file, a server, text of somebody else, and what is JSON anyway.
    assert silent == {"init", "serve", "logs", "schema"}


def test_a_wrong_job_ends_with_code_2_all_its_problems_and_no_trace(process, tmp_path):
    wrong = ("training.lrr=1", "training.epochs=two", "backbone.name=resnet5O", "data.train=nowhere")
    ended = process("run", "quickstart", *(part for setting in wrong for part in ("--set", setting)))
    assert ended.returncode == 2
    assert "did you mean 'training.lr'" in ended.stderr
    assert "training.epochs: input should be a valid integer, got 'two'" in ended.stderr
    assert "did you mean resnet50" in ended.stderr
    assert "'nowhere'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_corrupt_images_are_named_before_anything_starts(skipline, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.png").write_bytes(b"not an image")
    ended = skipline("train", "quickstart", "--set", "data.train=images", "--set", "data.crop=none")
    assert ended.returncode == 2
    assert "cat/1.png" in ended.stderr
    assert not list(tmp_path.glob("runs/*/job.yaml"))


def test_init_writes_a_job_file_that_loads_and_never_overwrites_one(skipline, tmp_path):
    assert skipline("init", "mine.yaml").returncode == 0
    assert load_job(str(tmp_path / "mine.yaml")) == load_job("quickstart")
    again = skipline("init", "mine.yaml")
    assert again.returncode == 2
    assert "init never overwrites, mine.yaml exists" in again.stderr


def test_init_writes_the_values_that_it_is_given(skipline, tmp_path):
    settings = ("data.train=images", "training.epochs=3", "search.trials=2")
    given = [part for setting in settings for part in ("--set", setting)]
    assert skipline("init", "mine.yaml", *given).returncode == 0
    assert load_job(str(tmp_path / "mine.yaml")) == load_job("quickstart", settings)


def test_init_refuses_a_key_that_does_not_exist(skipline, tmp_path):
    ended = skipline("init", "mine.yaml", "--set", "training.epoch=3")
    assert ended.returncode == 2
    assert "did you mean 'training.epochs'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [("init", "missing/mine.yaml"), ("schema", "--output", "missing/mine.json")]
)
def test_a_file_that_cannot_be_written_is_said_by_name(skipline, command):
    ended = skipline(*command)
    assert ended.returncode == 2
    assert f"{command[-1]} cannot (No such file or directory)" in ended.stderr


def test_inspect_prints_stages_split_and_every_profiles_cost(skipline):
    printed = skipline("inspect", "resnet50").stdout
    assert "split [2, 2, 3, 2]" in printed
    assert "│ TTTT    │ base │ 2560.6 │    0.63 │" in printed
    assert printed.count("│ T") == 8


def test_inspect_answers_machines_with_numbers(skipline):
    answer = json.loads(skipline("inspect", "resnet50", "--json").stdout)
    assert (answer["split"], answer["family"]) == ([2, 2, 3, 2], "ResNet")
    assert answer["stages"][2]["skippable_blocks"] == 3
    assert [one["profile"] for one in answer["profiles"]][-1] == "TTTT"
    assert round(answer["profiles"][-1]["macs"] / 1e6, 1) == 2560.6


def test_backbones_answer_machines_with_what_is_known_of_them(skipline):
    (answer,) = json.loads(skipline("backbones", "resnet50_gn", "--json").stdout)
    assert (answer["name"], answer["family"], answer["refusal"]) == ("resnet50_gn", "ResNet", "")


def test_a_refused_request_has_no_answer(skipline):
    ended = skipline("run", "quickstart", "--json", "--set", "training.epochs=two")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: training.epochs: input should be a valid integer, got 'two'\n"


def test_schema_is_written_or_printed(skipline, tmp_path):
    printed = skipline("schema", "--output", "job.schema.json").stdout
    assert "# yaml-language-server: $schema=job.schema.json" in printed
    schema = json.loads((tmp_path / "job.schema.json").read_text())
    assert schema == json.loads(skipline("schema").stdout)


def test_tune_without_a_search_section_is_refused(skipline):
    ended = skipline("tune", "quickstart", "--set", "search=null")
    assert ended.returncode == 2
    assert "tune needs a search section, job 'quickstart' has none" in ended.stderr


def test_a_number_of_seeds_without_baselines_is_refused(skipline, tmp_path):
    ended = skipline("train", "quickstart", "--seeds", "4")
    assert ended.returncode == 2
    assert "--seeds belongs to --baselines, got --seeds 4 alone; add --baselines" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_profiles_of_an_unknown_model_are_refused(skipline):
    ended = skipline("profiles", "models:/nothing/1")
    assert ended.returncode == 2
    assert "error:" in ended.stderr


def test_space_prints_what_a_search_draws_and_how_many_designs(skipline):
    printed = skipline("space", "splits_only", "--backbone", "resnet50").stdout
    assert "stages of [3, 4, 6, 3] blocks: 4 parameters, 60 designs" in printed
    assert "│ split/3_of_4 │ 1..5  │      5 │       3 │" in printed


def test_space_answers_machines_with_ranges(skipline):
    answer = json.loads(skipline("space", "splits_only", "--backbone", "resnet50", "--json").stdout)
    assert answer["num_designs"] == 60
    assert answer["parameters"]["split/3_of_4"] == {"kind": "int", "low": 1, "high": 5, "log": False}
    assert answer["first_trial"]["split/3_of_4"] == 3


def test_a_space_with_five_mistakes_gives_five_messages_and_code_2(skipline, tmp_path):
    (tmp_path / "wrong.yaml").write_text(
        "training.lrr: {kind: float, low: 0.02, high: 0.4}\n"
        "training.epochs: {kind: int, low: 2, high: 4}\n"
        "training.weight_decay: {kind: float, low: 1.0e-3, high: 1.0e-5, log: true}\n"
        "distillation.temperature: {kind: choice, choices: []}\n"
        "distillation.alpha: {kind: float, low: 0.5, high: 1.5}\n"
    )
    ended = skipline("space", "wrong.yaml", "--backbone", "resnet18")
    assert ended.returncode == 2
    assert ended.stderr.count("space 'wrong.yaml': ") == 5


@pytest.mark.ray
def test_a_job_answers_machines_with_one_document_whatever_ray_prints(process, tmp_path):
    job = JOB | {
        "name": "tiny",
        "training": {"epochs": 1, "batch_size": 64, "workers": 1},
        "search": {"space": "recipe_only", "trials": 2, "epochs": 1},
        "registry": {"model": "tiny"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    ended = process("run", "job.yaml", "--json")
    answer = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert answer["version"]["uri"] == "models:/tiny/1"
    assert [row["profile"] for row in answer["table"]["results"]] == ["FF", "FT", "TF", "TT"]
    assert answer["table"]["choices"] == ["trial", "statistics"]
    assert "trial 2/2  epoch 1/1" in ended.stderr
    steps = {}
    for verb in ("tune", "train", "evaluate"):
        ended = process(verb, "job.yaml", "--json", "--quiet")
        assert ended.stderr == ""
        steps[verb] = json.loads(ended.stdout)
    assert len(steps["tune"]["search"]["trials"]) == 2
    assert [epoch["epoch"] for epoch in steps["train"]["training"]["history"]] == [1]
    assert steps["evaluate"]["table"] == answer["table"]
    assert json.loads(process("report", "job.yaml", "--json").stdout)["report"] == answer["report"]
