"""Who wrote a run, and who its description: ours may be renewed, one that somebody else wrote may not."""

import getpass
import hashlib
import os
from collections.abc import Mapping

from . import tags


def author_tags() -> dict[str, str]:
    """Return who started a run and with what, as MLflow's own clients do, without paths of the machine."""
    return {tags.USER: _user(), tags.SOURCE_NAME: "skipline", tags.SOURCE_TYPE: "LOCAL"}


def note_tags(description: str) -> dict[str, str]:
    """Return a run's description as its tags, with what tells later that it is ours; nothing for no text."""
    return {tags.NOTE: description, tags.NOTE_DIGEST: _digest(description)} if description else {}


def owns_note(run_tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags has no description, or one that nobody changed."""
    note = run_tags.get(tags.NOTE, "")
    return not note or _digest(note) == run_tags.get(tags.NOTE_DIGEST)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _user() -> str:
    """Return the user's name; one that a container gives no name has a number alone."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
