"""Verbs on a real small registry answer machines with one JSON document, and notebooks with values."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

import pipeline
from pipeline.config import parse_job
from pipeline.folder import JobFolder
from pipeline.registry.promotion import promote
from pipeline.registry.register import register_model
from pipeline.registry.store import default_artifact_root, ensure_experiment
from pipeline.registry.tracking import JobRun
from pipeline.reporter import Silent
from pipeline.storage import StoragePath


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def done(client, storage, network, preprocessing, table, origin):
    """File of a job that has registered its network."""
    job = parse_job(
        {
            "name": "done",
            "data": {"train": "builtin:digits", "image_size": 16, "crop": "none", "flip_probability": 0.0},
            "backbone": {"name": "resnet18", "small_images": True, "kwargs": {"channels": [8, 8, 8, 8]}},
            "training": {"epochs": 1},
            "registry": {"model": "net"},
            "storage": str(storage),
        }
    )
    root = default_artifact_root(client.tracking_uri, storage=StoragePath.parse(job.storage, job.s3))
    experiment = ensure_experiment(client, job.registry.experiment, artifact_root=root)
    run = JobRun.open(client, experiment, name=job.name, key=job.key(), params={}, tags={})
    version = register_model(
        client,
        run,
        name="net",
        key=job.key(),
        network=network,
        preprocessing=preprocessing,
        class_names=["a", "b", "c"],
        table=table,
        origin=origin,
    )
    run.close("FINISHED")
    folder = JobFolder.of(job)
    folder.claim(job)
    folder.version.write_text(json.dumps(asdict(version)))
    folder.profile_table.write_text(table.to_json())
    path = Path(storage) / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    return str(path)


def test_models_and_profiles_answer_with_tables(register, answer, table):
    register()
    (listed,) = answer("models")
    assert listed == {
        "uri": "models:/net/1",
        "aliases": ["challenger"],
        "table": json.loads(table.to_json()),
    }
    assert answer("profiles", "models:/net/1") == json.loads(table.to_json())


def test_models_and_profiles_say_what_accuracies_are_counted_on(register, skipline, table):
    register(table=replace(table, choices=("trial", "epoch")))
    _, listed, _ = skipline("models")
    _, shown, _ = skipline("profiles", "models:/net/1")
    assert "that may also have chosen the trial" in " ".join(listed.split())
    assert "top-1 on 30 validation images that also chose the trial and the epoch;" in " ".join(shown.split())


def test_promote_and_rollback_answer_with_the_champion(register, client, answer):
    register()
    register(key="key-2")
    promote(client, "models:/net/1")
    assert answer("promote", "models:/net/2", "--override", "a test") == {"champion": "models:/net/2"}
    taken_back = {"taken_back": "models:/net/2", "champion": "models:/net/1"}
    assert answer("rollback", "net", "--reason", "a test") == taken_back


def test_bench_answers_with_a_table_and_pull_with_a_file(register, answer, tmp_path):
    register()
    assert len(answer("bench", "models:/net/1")["results"]) == 16
    pulled = answer("pull", "models:/net/1", "--profile", "base", "--output", str(tmp_path / "small"))
    assert pulled["profile"] == "TTTT"
    assert Path(pulled["file"]).stat().st_size == pulled["bytes"]


def test_an_error_is_told_on_the_error_stream_and_leaves_the_answer_empty(register, skipline):
    register()
    code, printed, errors = skipline("profiles", "models:/net/2", "--json")
    assert (code, printed) == (2, "")
    assert "error: models:/net/2 must exist" in errors


@pytest.mark.parametrize("verb", ["run", "register"])
def test_a_job_that_is_done_answers_as_one_that_has_just_ended(done, answer, table, storage, verb):
    found = answer(verb, done, at=())
    assert found["version"]["uri"] == "models:/net/1"
    assert found["table"] == json.loads(table.to_json())
    assert (found["job"], found["folder"]) == ("done", str(storage / "done"))


def test_progress_of_a_verb_that_answers_in_json_goes_to_the_error_stream(done, skipline):
    _, printed, errors = skipline("run", done, "--json", at=())
    assert json.loads(printed)["job"] == "done"
    assert errors == "job 'done' is finished already\n"


def test_quiet_leaves_results(done, skipline):
    code, printed, errors = skipline("run", done, "--quiet", at=())
    assert (code, errors) == (0, "")
    assert printed.startswith("done: every depth of one network")
    assert "registered models:/net/1" in printed
    assert "next:" not in printed
    assert "finished already" not in printed


def test_without_a_terminal_no_line_is_empty(done, skipline):
    _, printed, _ = skipline("run", done, at=())
    assert printed.startswith("job 'done' is finished already\ndone: every depth")
    assert "\n\n" not in printed


def test_a_notebook_gets_values(done, table, capsys):
    result = pipeline.run(done)
    assert capsys.readouterr().out == "job 'done' is finished already\n"
    assert result.table == table
    assert str(result.version) == "models:/net/1"
    assert str(result).startswith(f"models:/net/1, by job done in {result.folder}\n\nprofile")
    assert result._repr_html_().count("<tr>") == 1 + 16


def test_a_job_may_be_given_as_values_with_other_settings(done, capsys):
    data = yaml.safe_load(Path(done).read_text())
    given = pipeline.run(data, reporter=Silent())
    assert given == pipeline.run(pipeline.Job(**data), reporter=Silent())
    assert capsys.readouterr().out == ""
    with pytest.raises(pipeline.RequestError, match=r"training\.epochs: .*, got 0"):
        pipeline.run(done, {"training.epochs": 0})
