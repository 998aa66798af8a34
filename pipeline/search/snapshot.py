"""Ray Tune's own snapshot of a sweep, and whether it can be trusted.

Ray copies its files one by one every few seconds, so a kill may leave a snapshot cut short. The
sweep then goes on from its records, which are written whole.
"""

import json
import logging
import pickletools
from pathlib import Path

from ray import tune

_log = logging.getLogger(__name__)


def can_restore(folder: Path) -> bool:
    """Return whether Ray Tune can go on from what is in a folder."""
    if not (tune.Tuner.can_restore(str(folder)) and any(folder.glob("experiment_state-*.json"))):
        return False
    try:
        for path in folder.glob("*.json"):
            json.loads(path.read_text())
        for path in folder.glob("*.pkl"):
            _scan_to_the_end(path)
    except ValueError as error:
        _log.warning("Ray's snapshot of the search is damaged (%s); it goes on from its records", error)
        return False
    return True


def _scan_to_the_end(path: Path) -> None:
    """Read a pickle's instructions without carrying out any; raises ValueError if the last one is missing."""
    for _ in pickletools.genops(path.read_bytes()):
        pass
