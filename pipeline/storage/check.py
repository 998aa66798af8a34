"""Whether a place can keep a job, found out before it starts: written, read back, listed and deleted."""

import os
import secrets
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline.config import S3Config

from .object_store import WRITE, S3Location, StoreError, ask, explain_failure, is_s3, make_hasty_client

_CONDITIONS = (
    ("IfNoneMatch", "*", "only where there is none"),
    ("IfMatch", '"00000000000000000000000000000000"', "only as it was read"),
)
"""What a lease asks of a store; neither holds for an object that has just been written."""
_CONTENT = b"Skipline checks whether it can keep a job here. This object may be deleted.\n"


def check_storage(location: str, s3: S3Config) -> list[str]:
    """Return what keeps a job from being stored at a location, at most one message.

    Args:
        location: A folder, made only by the job, or `s3://BUCKET/PREFIX`.
        s3: How to reach the store.
    """
    if is_s3(location):
        return ask(lambda: _check_store(location, s3), location, s3)
    storage = Path(location).expanduser().absolute()
    existing = next(path for path in (storage, *storage.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return []
    return [f"storage must be a folder that can be written, got {location!r}; {existing} is not"]


def _check_store(location: str, s3: S3Config) -> list[str]:
    try:
        place = S3Location.parse(location)
    except ValueError as err:
        return [str(err)]
    name = f".skipline-check-{secrets.token_hex(8)}"
    target = {"Bucket": place.bucket, "Key": f"{place.path}/{name}".lstrip("/")}
    try:
        client = make_hasty_client(s3)
        return _round_trip(client, target, place)
    except (*StoreError, ValueError) as err:  # ValueError: an endpoint that boto3 takes for none
        return [explain_failure(err, location, s3, WRITE)]


def _round_trip(client: Any, target: dict[str, str], place: S3Location) -> list[str]:  # noqa: ANN401
    client.put_object(**target, Body=_CONTENT)
    try:
        if client.get_object(**target)["Body"].read() != _CONTENT:
            return [f"{str(place)!r} must give back what was written, it did not; use another store"]
        listed = client.list_objects_v2(Bucket=target["Bucket"], Prefix=target["Key"]).get("Contents", ())
        if not listed:
            return [
                f"{str(place)!r} must list what was just written, it does not; use a store that is consistent"
            ]
        for condition, value, meaning in _CONDITIONS:
            if _writes(client, target, {condition: value}):
                return [
                    f"{str(place)!r} must write an object {meaning} when asked so ({condition}), which keeps "
                    "two commands off one job, it writes it always; use a store that does, such as Amazon "
                    "S3 or MinIO"
                ]
    finally:
        client.delete_object(**target)
    return []


def _writes(client: Any, target: dict[str, str], condition: dict[str, str]) -> bool:  # noqa: ANN401
    """Return whether an object that is there is written although a condition does not hold."""
    try:
        client.put_object(**target, Body=_CONTENT, **condition)
    except ClientError as err:
        if err.response["ResponseMetadata"].get("HTTPStatusCode") == 412:
            return False
        raise
    return True
