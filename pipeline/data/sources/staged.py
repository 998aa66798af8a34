"""A source in an object store, read from its copy on this machine."""

from collections.abc import Callable

from pipeline.config import S3Config
from pipeline.data.s3 import stage
from pipeline.data.sources.base import ImageSource
from pipeline.data.sources.view import SourceView
from pipeline.errors import RequestError


class StagedSource(SourceView):
    """The images of an S3 location; the first process of a machine that opens it copies them there.

    Args:
        location: Such as `s3://bucket/prefix`.
        s3: How to reach the store.
        fingerprint: State that the objects must have; None takes them as they are.
        open_local: Opens the copy.

    Raises:
        RequestError: If there are no images, or they are not as a local location would need them.
        JobError: If the objects have changed or cannot be transferred.
    """

    def __init__(
        self, location: str, s3: S3Config, fingerprint: str | None, open_local: Callable[[str], ImageSource]
    ) -> None:
        staged = stage(location, s3, fingerprint)
        try:
            super().__init__(open_local(str(staged.path)))
        except RequestError as err:
            problems = [problem.replace(str(staged.path), location) for problem in err.problems]
            raise RequestError(problems) from err
        self._reopen = (location, s3, staged.fingerprint, open_local)

    def __reduce__(self) -> tuple[type["StagedSource"], tuple[object, ...]]:
        return StagedSource, self._reopen

    @property
    def location(self) -> str:
        """The location in the store."""
        return self._reopen[0]

    @property
    def fingerprint(self) -> str:
        """Changes with names, sizes and ETags of the objects; the same on every machine."""
        return self._reopen[2]
