"""Ray Tune's own snapshot of a sweep, and whether it can be trusted.

Ray copies its files one by one every few seconds, so a kill may leave a snapshot cut short. The
sweep then goes on from its records, which are written whole.
"""

import json
import logging
import pickletools

from ray import tune

from pipeline.storage import StoragePath

_log = logging.getLogger(__name__)


def can_restore(folder: StoragePath) -> bool:
    """Return whether Ray Tune can go on from what is in a folder."""
    files = folder.children()
    if not (
        tune.Tuner.can_restore(folder.path, storage_filesystem=folder.filesystem)
        and any(file.name.startswith("experiment_state-") for file in files)
    ):
        return False
    try:
        for file in files:
            if file.name.endswith(".json"):
                json.loads(file.read_text())
            elif file.name.endswith(".pkl"):
                _scan_to_the_end(file)
    except ValueError as error:
        _log.warning("Ray's snapshot of the search is damaged (%s); it goes on from its records", error)
        return False
    return True


def _scan_to_the_end(file: StoragePath) -> None:
    """Read a pickle's instructions without carrying out any; raises ValueError if the last one is missing."""
    for _ in pickletools.genops(file.read_bytes()):
        pass
