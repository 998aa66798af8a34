"""What keeps a job from being stored is said before it starts, in seconds."""

import socket
import time

import pytest

from pipeline.config import S3Config, parse_job
from pipeline.errors import RequestError
from pipeline.preflight import find_problems
from pipeline.storage import object_store
from pipeline.storage.check import check_storage
from tests.s3_server import BUCKET


def test_a_store_that_keeps_things_has_no_problem_and_keeps_nothing_of_the_check(store, s3, prefix):
    assert check_storage(prefix, s3) == []
    found = store.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix.rpartition("/")[2])
    assert found["KeyCount"] == 0


def test_a_bucket_that_is_not_there_is_said(s3):
    (problem,) = check_storage("s3://missing/runs", s3)
    assert problem.startswith("'s3://missing/runs' must exist, http://")


def test_a_location_that_holds_credentials_is_refused_without_showing_them(s3):
    (problem,) = check_storage("s3://key:very-secret@bucket/runs", s3)
    assert "an S3 location must be written s3://BUCKET/PREFIX" in problem
    assert "very-secret" not in problem


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("HTTP_IF_NONE_MATCH", "must write an object only where there is none when asked so (IfNoneMatch)"),
        ("HTTP_IF_MATCH", "must write an object only as it was read when asked so (IfMatch)"),
    ],
)
def test_a_store_that_writes_whatever_the_condition_is_refused(s3, prefix, store, header, message):
    store.faults.ignored_header = header
    (problem,) = check_storage(prefix, s3)
    assert message in problem


def test_a_store_that_never_answers_is_said(monkeypatch):
    monkeypatch.setattr(object_store, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start_s = time.monotonic()
        (problem,) = check_storage("s3://bucket/runs", S3Config(endpoint_url=url))
    assert f"{url} did not for 's3://bucket/runs'" in problem
    assert time.monotonic() - start_s < 5


def _job(**changes):
    return {
        "name": "tiny",
        "data": {"train": "builtin:digits", "image_size": 16},
        "backbone": {"name": "resnet18"},
        "training": {"epochs": 2},
        "registry": {"model": "tiny", "tracking_uri": "sqlite:///m.db"},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "gs://bucket/runs"}, r"storage must be a folder or s3://BUCKET/PREFIX, got gs://"),
        (
            {"storage": "s3://bucket/runs", "registry": {"model": "tiny"}},
            "storage in an object store cannot hold the embedded MLflow",
        ),
    ],
)
def test_storage_that_cannot_work_is_refused_with_the_file(changes, message):
    with pytest.raises(RequestError, match=message):
        parse_job(_job(**changes))


def test_the_check_of_a_job_writes_to_its_storage(s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the registry of the job lies in a relative file
    job = parse_job(_job(storage="s3://missing/runs", s3=s3.model_dump()))
    assert "'s3://missing/runs' must exist" in "\n".join(find_problems(job))
