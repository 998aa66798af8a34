"""Images in an object store: what a location holds, the check of it, and its copy on this machine."""

from pipeline.data.s3.check import check_s3
from pipeline.data.s3.staging import Staged, stage

__all__ = ["Staged", "check_s3", "stage"]
