"""One job, one version: whatever was there before, and however often the job runs."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from pipeline.errors import JobError, RequestError
from pipeline.evaluation.table import ProfileTable
from pipeline.registry import register as register_module
from pipeline.registry import tags
from pipeline.registry.description import describe_version
from pipeline.registry.register import (
    check_model_name,
    find_version,
    read_profile_table,
)


def versions(client):
    return client.search_model_versions("name = 'net'")


def models(client, run):
    return client.search_logged_models([run.experiment_id])


def test_the_same_key_registers_one_version(register, client, run):
    first, second = register(), register()
    assert first == second == find_version(client, "net", "key-1")
    assert (first.uri, len(versions(client)), len(models(client, run))) == ("models:/net/1", 1, 1)


def test_another_key_registers_another_version(register, client):
    assert (register().version, register(key="key-2").version) == (1, 2)
    assert find_version(client, "net", "key-3") is None


def test_a_version_holds_its_table_in_files_tag_description_and_metrics(register, client, run, table):
    registered = register()
    version = client.get_model_version("net", 1)
    stored = Path(client.download_artifacts(run.run_id, "profiles.json"))
    assert read_profile_table(client, registered.uri) == table
    assert ProfileTable.from_json(stored.read_text()) == table
    lines = [line for line in version.description.split("\n") if line.startswith("|")]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == table.rows()
    metrics = {metric.key: metric.value for metric in client.get_logged_model(registered.model_id).metrics}
    assert metrics == {
        "result/full_top1": table.full.top1,
        "result/base_top1": table.base.top1,
        "result/base_cost": 1.0,
    }
    assert len(version.tags[f"{tags.SHA256}weights"]) == 64


def test_a_pending_model_of_a_killed_attempt_is_replaced(register, client, run):
    stale = client.create_logged_model(run.experiment_id, "net", run.run_id, tags={tags.MODEL_KEY: "key-1"})
    registered = register()
    assert [(model.model_id, model.status) for model in models(client, run)] == [
        (registered.model_id, LoggedModelStatus.READY)
    ]
    assert stale.model_id != registered.model_id


def test_uploaded_files_of_a_killed_attempt_are_used_again(register, client, run, table, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(register_module, "_create_version_once", Mock(side_effect=KeyboardInterrupt("kill")))
        with pytest.raises(KeyboardInterrupt, match="kill"):
            register()
    measured_again = replace(table, num_images=31)
    registered = register(table=measured_again)
    assert [model.model_id for model in models(client, run)] == [registered.model_id]
    assert read_profile_table(client, registered.uri) == table
    history = client.get_metric_history(run.run_id, "profiles/top1")
    assert len(history) == len(table.results)


def test_of_two_racing_drivers_the_first_version_stays(register, client, monkeypatch):
    first = register()
    answers = iter([None])
    real = register_module.find_version
    monkeypatch.setattr(register_module, "find_version", lambda *a: next(answers, ...) and real(*a))
    assert register() == first
    assert len(versions(client)) == 1


def test_a_store_that_fails_is_reported_without_credentials(register, client, monkeypatch):
    def fail(*_, **__):
        raise MlflowException("API request to http://user:secret@host/api failed")

    monkeypatch.setattr(client, "create_logged_model", fail)
    with pytest.raises(JobError, match=r"register the model .*http://\*\*\*@host/api") as caught:
        register()
    assert caught.value.__cause__ is None


def test_a_description_fits_and_keeps_the_extremes_and_the_front(long_table, network):
    front = replace(long_table.results[200], is_pareto=True)
    table = replace(long_table, results=(*long_table.results[:200], front, *long_table.results[201:]))
    text = describe_version(table, network=network, job="job", uri="models:/net/1")
    assert 4500 < len(text) <= 5000
    assert all(f"| {result.profile} |" in text for result in (table.full, table.base, front))
    assert "of 256 profiles" in text


def test_a_table_too_long_for_a_tag_is_read_from_the_files(register, client, monkeypatch, table):
    monkeypatch.setattr(register_module, "_MAX_TAG", 10)
    registered = register()
    assert tags.PROFILES not in client.get_model_version("net", 1).tags
    assert read_profile_table(client, registered.uri) == table


def test_a_table_is_read_by_alias(register, client, table):
    register()
    client.set_registered_model_alias("net", "champion", "1")
    assert read_profile_table(client, "models:/net@champion") == table


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("models:/net/7", "models:/net/7 must exist .* net has the versions 1 and the aliases "),
        ("models:/net@best", "models:/net@best must exist .* net has the versions 1 "),
        ("models:/nett/1", "models:/nett/1 must exist .* did you mean net"),
        ("net", "got 'net'; write for example models:/"),
    ],
)
def test_an_unknown_address_lists_what_exists(register, client, address, message):
    register()
    with pytest.raises(RequestError, match=message):
        read_profile_table(client, address)


@pytest.mark.parametrize("name", ["quickstart", "cifar10-resnet50", "a.b_c", "_x", "x" * 200])
def test_a_good_model_name_has_no_problems(name):
    assert check_model_name(name) == []


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", "it's", "-x", "..", "x" * 201, "m-" + "0" * 32])
def test_a_bad_model_name_has_a_problem(name):
    assert [problem[:12] for problem in check_model_name(name)] == ["a model name"]


def test_a_bad_model_name_is_refused_before_anything_is_written(register, client, run):
    with pytest.raises(RequestError, match="got 'a/b'; write for example 'a-b'"):
        register(name="a/b")
    assert models(client, run) == []
