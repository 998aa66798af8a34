"""Looks at the place where a job is kept: written, read back and deleted."""

import secrets
from pathlib import Path

from pipeline.config import S3Config
from pipeline.registry.failures import brief
from pipeline.storage.check import check_storage
from pipeline.storage.object_store import S3Location, StoreError, is_s3, make_hasty_client

from .clock import judge_clock, now_s
from .findings import NotNeededError, Problem


def storage_works(location: str, s3: S3Config) -> str:
    """Return what a storage was seen to do; raises Problem with what keeps a job from being kept there."""
    if not is_s3(location):
        return _folder_works(Path(location).expanduser().absolute())
    for problem in check_storage(location, s3):
        seen, _, fix = problem.rpartition("; ")
        raise Problem(seen, fix)
    return f"{location}: written, read back, listed, written on conditions, deleted"


def _folder_works(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    probe, content = existing / f".skipline-doctor-{secrets.token_hex(8)}", secrets.token_bytes(1024)
    try:
        probe.write_bytes(content)
        try:
            is_same = probe.read_bytes() == content
        finally:
            probe.unlink()
    except OSError as error:
        raise Problem(
            f"{existing} cannot be written ({brief(error)})",
            "give this user the right to write there, make room on the disk, or name another storage",
        ) from error
    if not is_same:
        raise Problem(f"{existing} does not give back what was written", "name another storage")
    made = "" if existing == folder else f" ({folder} will be made by the first job)"
    return f"{existing}: written, read back, deleted{made}"


def object_store_clock(location: str, s3: S3Config) -> str:
    """Return how far the object store's clock is from this machine's."""
    if not is_s3(location):
        raise NotNeededError("the storage is a folder")
    client, start_s = make_hasty_client(s3), now_s()
    try:
        answer = client.list_objects_v2(Bucket=S3Location.parse(location).bucket, MaxKeys=1)
    except StoreError as error:
        # A refusal, too, says what time it is: RequestTimeTooSkewed is one.
        answer = getattr(error, "response", {})
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return judge_clock(headers.get("date"), start_s=start_s, end_s=now_s(), whose="the object store")
