"""What a registered model may be called."""

import re

from pipeline.errors import RequestError

_MAX_LENGTH = 200
_LAW = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOGGED_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


def check_model_name(name: str) -> list[str]:
    """Return what is wrong with a model name, nothing if `models:/NAME/1` can address it.

    Stricter than MLflow, which takes names that its own `models:/` addresses and filters cannot express. 200
    letters is chosen: PostgreSQL's column holds 256.
    """
    if not name:
        return ["a model name must not be empty; write one such as 'quickstart'"]
    problems = []
    if not _LAW.fullmatch(name):
        proposal = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip(".-") or "model"
        problems.append(
            "a model name has letters, digits, '_', '-' and '.', and starts with a letter, digit or '_', "
            f"got {name!r}; write for example {proposal!r}"
        )
    if len(name) > _MAX_LENGTH:
        problems.append(
            f"a model name has at most {_MAX_LENGTH} characters, got {len(name)} in "
            f"{name[:30]!r}...; shorten it"
        )
    if _LOGGED_MODEL_ID.fullmatch(name):
        problems.append(
            f"a model name must not look like the id of a logged model, got {name!r}; add a letter"
        )
    return problems


def require_model_name(name: str) -> None:
    """Raise RequestError if a model name cannot be registered."""
    if problems := check_model_name(name):
        raise RequestError(problems)
