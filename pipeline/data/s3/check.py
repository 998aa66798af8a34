"""The check of an S3 location before anything starts: it answers in seconds, whatever the store does."""

from itertools import islice
from pathlib import PurePosixPath

from pipeline.config import S3Config
from pipeline.data.file_kinds import SHARD_SUFFIXES, mixed_parts
from pipeline.data.s3.listing import choose, list_objects, listed_prefix
from pipeline.storage.object_store import S3Location, StoreError, ask, explain_failure, make_hasty_client

_PAGE = 1000  # objects of one answer


def check_s3(text: str, s3: S3Config) -> list[str]:
    """Return what keeps a location from being read, at most one message; asks for one page of names.

    Args:
        text: Such as `s3://bucket/prefix`.
        s3: How to reach the store.
    """
    return ask(lambda: _check(text, s3), text, s3)


def _check(text: str, s3: S3Config) -> list[str]:
    """Return what is wrong with the location, waiting as long as it takes."""
    try:
        location = S3Location.parse(text)
    except ValueError as err:
        return [str(err)]
    try:
        client = make_hasty_client(s3)
        objects = list(islice(list_objects(client, location), _PAGE))
    except (*StoreError, ValueError) as err:  # ValueError: an endpoint that boto3 takes for none
        return [explain_failure(err, location, s3)]
    chosen = choose(location, objects)
    if not chosen and len(objects) < _PAGE:
        return [empty_problem(location, len(objects))]
    shards = [item for item in chosen if item.name.endswith(SHARD_SUFFIXES)]
    # Paths would make one of the two slashes of s3://, so it is put before them afterwards.
    folder = PurePosixPath("/", location.bucket, listed_prefix(location))
    problems = mixed_parts([folder / item.name for item in shards]) if shards else []
    return [problem.replace(f"'{folder}", f"'s3:/{folder}") for problem in problems]


def empty_problem(location: S3Location, num_objects: int) -> str:
    """Return the message for a location without images.

    Args:
        location: Where none are.
        num_objects: How many other objects are there.
    """
    return (
        "an S3 location must hold images in one folder a class, .parquet or .tar files or a saved Hugging "
        f"Face data set, {str(location)!r} holds {num_objects} objects and none of these; correct the bucket "
        "or prefix"
    )
