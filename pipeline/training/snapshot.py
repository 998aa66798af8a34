"""Ray's list of a run's checkpoints, made safe against a kill and against folders that vanished.

On a disk Ray writes the list in place, so a kill at that moment leaves half of it, and a run with half a
list, or with a listed folder that is gone, never starts again. So a copy is kept, and the list is mended
before a start.
"""

import json
import logging
from typing import Any

from ray.train import UserCallback

from pipeline.storage import StoragePath

log = logging.getLogger(__name__)

SNAPSHOT, COPY = "checkpoint_manager_snapshot.json", "checkpoint_list.json"


class SnapshotCallback(UserCallback):  # type: ignore[misc]
    """Copies the list whenever Ray has written it, whole or not at all.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: StoragePath) -> None:
        self._run = run

    def after_report(
        self,
        run_context: Any,  # noqa: ANN401, ARG002
        metrics: list[dict[str, Any]],  # noqa: ARG002
        checkpoint: Any,  # noqa: ANN401
    ) -> None:
        """Called in the controller of the run, after Ray has registered the checkpoint."""
        # An object in a store is never half written.
        if checkpoint is not None and self._run.is_local:
            (self._run / COPY).write_text((self._run / SNAPSHOT).read_text())


def mend_snapshot(run: StoragePath) -> None:
    """Make a run startable that was killed or lost a checkpoint; nothing changes for any other.

    Half a list gives way to the copy, which may lack the latest epoch: that one is trained again. A listed
    folder that is gone becomes an empty one, which the workers refuse by name.

    Args:
        run: Its folder; may not exist yet.
    """
    snapshot, copy = run / SNAPSHOT, run / COPY
    if not snapshot.exists():
        return
    rows = _rows(snapshot)
    if rows is None:
        rows = _rows(copy)
        log.warning("%s was cut short; %s", snapshot, "its copy is used" if rows else "it is deleted")
        if rows is None:
            snapshot.delete()
            return
        snapshot.write_text(copy.read_text())
    for row in rows:
        folder = run / row["checkpoint_dir_name"]
        if not folder.exists():
            folder.make_folder()


def _rows(file: StoragePath) -> list[dict[str, Any]] | None:
    """Return the listed checkpoints, or None where there is no whole list."""
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text())["checkpoint_results"]
    except (FileNotFoundError, ValueError):
        return None
    return rows
