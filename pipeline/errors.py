"""The two ways a job can end badly, each with its exit code.

A message has three parts: the law, the value seen, the way out. Both classes hand all their arguments to
`Exception`, because an exception that does not loses its type when Ray pickles it.
"""

from collections.abc import Iterable


class SkiplineError(Exception):
    """Anything that Skipline itself reports; `exit_code` is what the command line ends with."""

    exit_code = 1


class JobError(SkiplineError):
    """A job that started and could not finish; what it stored stays, and the same command goes on."""


class RequestError(SkiplineError):
    """A request that cannot be carried out, found before anything started.

    Args:
        problems: One message a problem, each with the law, the value seen and the way out.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)
