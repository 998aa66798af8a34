import pytest

from pipeline.config import S3Config, examine_job
from pipeline.preflight import find_problems
from pipeline.storage.object_store import S3Location, make_client


def problems_of(train="s3://images/x", storage="runs", tracking_uri=None, **s3):
    """Return what is wrong with a job that has these s3 settings."""
    job = {
        "name": "tiny",
        "data": {"train": train, "image_size": 16},
        "s3": s3,
        "backbone": {"name": "resnet18"},
        "training": {"epochs": 2},
        "registry": {"model": "tiny", "tracking_uri": tracking_uri},
        "storage": storage,
    }
    found = examine_job(job)
    return found.job, list(found.problems)


@pytest.mark.parametrize("url", ["http://me:very-secret@minio:9000", "https://minio/?token=very-secret"])
def test_credentials_in_an_endpoint_are_refused_and_not_shown(url):
    (problem,) = problems_of(endpoint_url=url)[1]
    assert "s3.endpoint_url: endpoint_url must hold no credentials, the one given does; set AWS_" in problem
    assert "very-secret" not in problem


@pytest.mark.parametrize("url", ["minio:9000", "ftp://minio", "http://"])
def test_an_endpoint_must_be_an_address(url):
    (problem,) = problems_of(endpoint_url=url)[1]
    assert f"must be http(s)://HOST[:PORT], got {url!r}" in problem


def test_s3_settings_without_a_store_are_refused():
    assert (
        "s3: the settings have no effect without an s3:// location"
        in problems_of("builtin:digits", region="eu-west-1")[1][0]
    )


@pytest.mark.parametrize("locations", [("s3://images/x", "runs"), ("builtin:digits", "s3://runs/x")])
def test_s3_settings_serve_data_and_storage(locations):
    assert problems_of(*locations, "http://127.0.0.1:5000", region="eu-west-1")[1] == []


def test_settings_reach_the_client(s3_server):
    s3 = S3Config(endpoint_url=s3_server.url, region="eu-west-1", addressing_style="path")
    client = make_client(s3)
    assert (client.meta.endpoint_url, client.meta.region_name) == (s3.endpoint_url, "eu-west-1")
    assert client.meta.config.s3["addressing_style"] == "path"
    assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 10}


def test_a_job_whose_bucket_is_missing_is_refused_before_it_starts(s3_server, tmp_path):
    job, _ = problems_of("s3://missing/x", storage=str(tmp_path / "runs"), endpoint_url=s3_server.url)
    (problem,) = find_problems(job)
    assert problem.startswith("data: 's3://missing/x' must exist, http://127.0.0.1:")


@pytest.mark.parametrize(
    ("text", "bucket", "path", "is_pattern"),
    [
        ("s3://b", "b", "", False),
        ("s3://b/", "b", "", False),
        ("s3://b/a/c/", "b", "a/c", False),
        ("s3://b/a/t-*.tar", "b", "a/t-*.tar", True),
    ],
)
def test_a_location_is_bucket_and_path(text, bucket, path, is_pattern):
    location = S3Location.parse(text)
    assert (location.bucket, location.path, location.is_pattern) == (bucket, path, is_pattern)
