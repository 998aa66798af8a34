"""The same laws on a disk and in an object store."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pyarrow.fs import FileSelector, FileType, copy_files

from pipeline.storage import StoragePath, patience, s3_files
from pipeline.storage.s3_files import Repeats, StorageError, open_store
from tests.s3_server import BUCKET


def test_text_that_is_written_is_read(place):
    file = place / "records" / "000001.json"
    assert not file.exists()
    file.write_text("größer")
    file.write_text("größer als")
    assert file.exists()
    assert (file.read_text(), file.name) == ("größer als", "000001.json")


def test_what_is_not_there_is_no_file(place):
    for read in ((place / "none").read_text, (place / "none").as_local().__enter__):
        with pytest.raises(FileNotFoundError, match="none"):
            read()
    assert place.children() == []
    (place / "none").delete()


def test_children_are_the_files_and_folders_of_a_folder_by_name(place):
    for name in ("b.json", "a.json", "deep/er/c.json"):
        (place / name).write_text(name)
    (place / "empty").make_folder()
    assert [child.name for child in place.children()] == ["a.json", "b.json", "deep", "empty"]
    assert (place / "deep").exists()


@pytest.mark.faults
def test_a_failed_write_leaves_the_old_file_and_nothing_else(place):
    file = place / "weights"
    file.write_text("old")

    def fail():
        with file.writing() as path:
            path.write_text("half of the n")
            raise InterruptedError("in between")

    with pytest.raises(InterruptedError, match="in between"):
        fail()
    assert file.read_text() == "old"
    assert [child.name for child in place.children()] == ["weights"]


def test_a_folder_is_read_as_a_whole_and_deleted_as_a_whole(place):
    for name in ("checkpoint/model", "checkpoint/deep/state", "checkpoint_2/model"):
        (place / name).write_text(name)
    with (place / "checkpoint").as_local() as folder:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert found == {"model", "deep/state"}
    (place / "checkpoint").delete()
    assert [child.name for child in place.children()] == ["checkpoint_2"]


def test_the_size_of_a_folder_is_that_of_all_its_files(place):
    (place / "a" / "one.txt").write_text("12345")
    (place / "a" / "deeper" / "two.txt").write_text("123")
    assert [(place / name).num_bytes() for name in ("a", "a/one.txt", "none")] == [8, 5, 0]


def test_an_empty_folder_exists_and_is_an_empty_folder(place):
    folder = place / "checkpoint_0001"
    folder.make_folder()
    folder.make_folder()
    assert folder.exists()
    with folder.as_local() as path:
        assert list(path.iterdir()) == []


def test_a_place_travels_without_credentials(place):
    (place / "a").write_text("a")
    pickled = pickle.dumps(place)
    assert b"very-secret" not in pickled
    assert (pickle.loads(pickled) / "a").read_text() == "a"


def test_a_place_is_named_as_the_user_named_it(tmp_path, s3):
    stored = StoragePath.parse("s3://bucket/runs/", s3) / "job"
    assert (str(stored), stored.uri) == ("s3://bucket/runs/job", "s3://bucket/runs/job")
    local = StoragePath.parse(str(tmp_path), s3)
    assert (str(local), local.uri) == (str(tmp_path), tmp_path.as_uri())
    with pytest.raises(ValueError, match=r"must be on a disk, got s3://bucket/runs/job"):
        _ = stored.local_path


@pytest.mark.faults
@pytest.mark.parametrize("num_bytes", [0, 5, 40_000_000])
def test_files_come_through_refused_requests_and_cut_connections(store, s3, prefix, tmp_path, num_bytes):
    content = os.urandom(num_bytes)
    (tmp_path / "file").write_bytes(content)
    store.faults.refuse_every, store.faults.cut_every, store.faults.refuses_writes = 3, 4, True
    place = StoragePath.parse(prefix, s3)
    copy_files(str(tmp_path / "file"), (place / "file").path, destination_filesystem=place.filesystem)
    for _ in range(4):
        assert (place / "file").read_bytes() == content
    assert store.faults.served["503"] > 0
    assert store.faults.served["cut"] > 0


def test_the_log_is_told_about_failures_at_1_10_and_100(caplog):
    repeats = Repeats("the store")
    for number in (1, 3, 5, 4, 80, 7, 1):
        repeats.add(number)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"the store has refused or broken off requests, {number} so far" for number in (1, 13, 100)
    ]


def test_refused_requests_and_cut_downloads_are_told(store, s3, prefix, caplog):
    s3 = s3.model_copy(update={"region": "eu-north-1"})  # a client, and a count, of its own
    file = StoragePath.parse(prefix, s3) / "file"
    file.write_text("x" * 1000)
    assert not caplog.records
    store.faults.refuse_every, store.faults.cut_every = 2, 3
    for _ in range(3):
        file.read_text()
    assert open_store(s3).repeats.count == store.faults.served["503"] + store.faults.served["cut"]
    assert (
        caplog.records[0].getMessage().startswith(f"{store.url} has refused or broken off requests, 1 so far")
    )
    assert "very-secret" not in caplog.text


def test_more_objects_than_one_request_deletes_are_deleted(store, s3, prefix):
    folder = StoragePath.parse(prefix, s3)
    client = store.client()
    for number in range(1010):
        client.put_object(Bucket=BUCKET, Key=f"{folder.path.partition('/')[2]}/{number}", Body=b"")
    assert len(folder.children()) == 1010
    folder.delete()
    assert not folder.exists()


def test_a_selector_lists_what_pyarrows_own_file_systems_list(place):
    for name in ("a", "deep/b", "deep/er/c"):
        (place / name).write_text(name)
    for is_recursive, expected in (
        (False, {"a": FileType.File, "deep": FileType.Directory}),
        (
            True,
            {
                "a": FileType.File,
                "deep": FileType.Directory,
                "deep/b": FileType.File,
                "deep/er": FileType.Directory,
                "deep/er/c": FileType.File,
            },
        ),
    ):
        infos = place.filesystem.get_file_info(FileSelector(place.path, recursive=is_recursive))
        assert {info.path.removeprefix(f"{place.path}/"): info.type for info in infos} == expected
    with pytest.raises(FileNotFoundError, match="none"):
        place.filesystem.get_file_info(FileSelector((place / "none").path))


def test_files_are_copied_and_moved(place):
    (place / "a").write_text("a")
    place.filesystem.copy_file((place / "a").path, (place / "b").path)
    place.filesystem.move((place / "a").path, (place / "c").path)
    assert {child.name: child.read_text() for child in place.children()} == {"b": "a", "c": "a"}


@pytest.mark.faults
def test_a_writer_that_fails_uploads_nothing(s3, prefix):
    place = StoragePath.parse(prefix, s3)
    stream = place.filesystem.open_output_stream((place / "half").path)
    stream.write(b"half")
    del stream
    assert not (place / "half").exists()


def test_what_a_store_refuses_is_explained(s3):
    with pytest.raises(OSError, match=r"'s3://missing/x' must exist, http://.* has no such bucket"):
        StoragePath.parse("s3://missing", s3).__truediv__("x").write_text("x")


@pytest.fixture
def impatient(s3, monkeypatch):
    """Settings of a client that tries once, so that the waiting is ours."""
    monkeypatch.setattr(s3_files, "make_client", partial(s3_files.make_client, max_attempts=1))
    monkeypatch.setattr(patience, "_PAUSE_S", 0.1)
    return s3.model_copy(update={"region": "eu-west-1"})  # a client of its own


@pytest.mark.faults
@pytest.mark.parametrize("num_bytes", [5, 40_000_000])
def test_a_store_that_is_away_for_a_while_is_waited_for(store, impatient, prefix, tmp_path, num_bytes):
    content = os.urandom(num_bytes)
    (tmp_path / "file").write_bytes(content)
    folder = StoragePath.parse(prefix, impatient)
    folder.copy_from(tmp_path)
    with ThreadPoolExecutor() as pool:
        with store.away():
            again = pool.submit(folder.copy_from, tmp_path)
            read = pool.submit((folder / "file").read_bytes)
            time.sleep(1)
        again.result()
        assert read.result() == content
    assert (folder / "file").read_bytes() == content


@pytest.mark.faults
def test_a_store_that_is_away_for_too_long_is_said(store, impatient, prefix, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    file = StoragePath.parse(prefix, impatient) / "file"
    file.write_text("old")
    with (
        store.away(),
        pytest.raises(StorageError, match=r"the object store must answer, http.* does not for"),
    ):
        file.write_text("new")
    assert file.read_text() == "old"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", r"those for 's3://.*/file' have expired \(ExpiredToken\); renew them"),
        ("RequestTimeTooSkewed", r"clock must be that of http.* \(RequestTimeTooSkewed\); correct it"),
    ],
    ids=["expired", "skewed"],
)
def test_a_refusal_is_no_outage_and_says_the_way_out(store, s3, prefix, code, message):
    file = StoragePath.parse(prefix, s3) / "file"
    file.write_text("old")
    store.faults.refuses_with = code
    with pytest.raises(StorageError, match=message):
        file.write_text("new")
    store.faults.clear()
    assert file.read_text() == "old"


@pytest.mark.faults
def test_a_slow_store_costs_only_time(store, s3, prefix):
    store.faults.delay_s = 0.5
    file = StoragePath.parse(prefix, s3) / "file"
    file.write_text("whole")
    assert file.read_text() == "whole"
