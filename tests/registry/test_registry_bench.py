"""Latencies of other machines, kept with a version."""

import json

import pytest

from pipeline.errors import RequestError
from pipeline.registry import tags
from pipeline.registry.bench import bench, benched_tables, table_measured_on
from pipeline.registry.loading import loaded_version
from pipeline.registry.promotion import promote

URI = "models:/net/1"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def registered(register):
    return register()


def measure(client, batch_size=1):
    return bench(client, URI, batch_size=batch_size, device="cpu", on_progress=lambda *_: None)


def test_latencies_are_kept_by_their_conditions_and_the_latest_count(client, table):
    first, again, other = measure(client), measure(client), measure(client, batch_size=2)
    assert first.latency == again.latency != other.latency
    assert first.results != again.results
    tables = benched_tables(client, URI)
    assert sorted(map(str, tables)) == sorted(map(str, [again, other]))
    assert {(row.top1, row.macs) for row in again.results} == {(row.top1, row.macs) for row in table.results}


def test_a_table_is_found_by_where_it_was_measured(client, table):
    other = measure(client, batch_size=2)
    assert table_measured_on(client, URI, "Batch 2") == other
    assert table_measured_on(client, URI, "fp32") == table
    with pytest.raises(RequestError, match=r"'batch' fits 2 of: cpu, 2 threads, batch 1, fp32; .*batch 2"):
        table_measured_on(client, URI, "batch")


def test_budgets_of_later_calls_go_by_what_was_measured(client):
    table = measure(client)
    with loaded_version(client, URI) as loaded:
        assert loaded.model.current_table().to_json() == table.to_json()
    assert promote(client, URI).table.latency != table.latency  # the gate keeps to what was registered


def test_files_that_are_not_those_of_the_tag_are_not_loaded(client):
    name, version = "net", "1"
    checksums = json.loads(client.get_model_version(name, version).tags[tags.CHECKSUMS])
    checksums["network.json"] = "0" * 64
    client.set_model_version_tag(name, version, tags.CHECKSUMS, json.dumps(checksums))
    with pytest.raises(RequestError, match=r"differs from the version's tag skipline\.checksums"):
        measure(client)
