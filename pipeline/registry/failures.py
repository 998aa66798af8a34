"""Turns MLflow's errors into ours, in one line and without credentials.

MLflow's HTTP errors quote the whole tracking URI. The original is therefore left out of the chain on
purpose: its traceback would show what the message hides.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from pipeline.errors import JobError

from .masking import mask_credentials

_MAX_LENGTH = 400


def brief(error: BaseException) -> str:
    """Return what an error says, on one line of at most 400 characters (chosen), credentials masked.

    Of an error that the operating system caused only that is told: `Connection refused`, not MLflow's
    account of it.
    """
    root = _root_cause(error)
    error = root if isinstance(root, OSError) else error
    text = " ".join(mask_credentials(str(error)).split()) or "no message"
    text = text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."
    return f"{type(error).__name__}: {text}"


def _root_cause(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


@contextmanager
def tracking_failures(action: str) -> Iterator[None]:
    """Report whatever MLflow raises inside as a JobError; also works as a decorator.

    Args:
        action: What was being done, for the message.

    Raises:
        JobError: If MLflow fails.
    """
    try:
        yield
    except MlflowException as error:
        message = brief(error)
    else:
        return
    raise JobError(
        f"the tracking store must answer, it failed to {action} ({message}); "
        "when it answers again, give the same command again: finished work is kept"
    )
