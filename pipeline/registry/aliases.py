"""Aliases that show what follows from a model's versions, whoever else sets them at the same time.

MLflow moves an alias for anybody who asks, and knows no compare-and-set (3.17).
"""

import contextlib
from collections.abc import Callable

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import JobError

CHAMPION, CHALLENGER = "champion", "challenger"
"""The version that consumers take, and the latest one."""

MAX_ROUNDS = 20
"""Readings until an alias stands; chosen, far more than promoters race."""


def settle_alias(client: MlflowClient, name: str, alias: str, find: Callable[[], int | None]) -> int | None:
    """Set an alias until it is found to show the right version, which is read anew each time; return it.

    Args:
        client: The store.
        name: Of the registered model.
        alias: What to set, or to remove.
        find: Reads from the store which version is right; None is none.

    Raises:
        JobError: If others keep changing it, or the store takes no alias.
    """
    for _ in range(MAX_ROUNDS):
        wanted, shown = find(), client.get_registered_model(name).aliases.get(alias)
        # A database gives the version as a number, a server as text.
        if (None if shown is None else int(shown)) == wanted:
            return wanted
        # Of two that set an alias for the first time, a database lets one fail.
        with contextlib.suppress(MlflowException):
            if wanted is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, str(wanted))
    raise JobError(
        f"the alias {alias} of {name!r} must come to rest, it was set {MAX_ROUNDS} times and is not; "
        "end what else sets it, or ask for the right to, and give the same command again"
    )
