"""What is stored about a trial while the sweep runs: one JSON file each, written whole or not at all.

Only the driver writes them. They outlive a kill, the trial's checkpoints and Ray's own snapshots,
and the result of the sweep is made of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.storage import StoragePath
from pipeline.training.epochs import EpochReport, History

Outcome = Literal["finished", "stopped", "failed"]
"""`finished` ran all its epochs, `stopped` was ended early as not promising, `failed` broke or diverged."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial, as far as it has come.

    Attributes:
        trial_id: The one under which Ray first started it; it names the trial for good.
        number: From 0; 0 is the job's own design.
        seed: Of the trial's training.
        values: What was searched, by dotted key of the job file.
        history: The epochs so far.
        outcome: None while it runs.
        cause: Why it failed.
        deleted_bytes: Of the checkpoints that were deleted at its end.
    """

    trial_id: str
    number: int
    seed: int
    values: Mapping[str, Any]
    history: History = ()
    outcome: Outcome | None = None
    cause: str | None = None
    deleted_bytes: int = 0

    def with_history(self, history: History) -> "TrialRecord":
        """Return the record with the longer of the two histories: a report may arrive twice."""
        return replace(self, history=max(self.history, history, key=len))

    def ended(self, outcome: Outcome, cause: str | None, *, deleted_bytes: int) -> "TrialRecord":
        """Return the record of the trial after its end."""
        return replace(self, outcome=outcome, cause=cause, deleted_bytes=deleted_bytes)


class RecordStore:
    """The records of a sweep in a folder.

    Args:
        folder: Made with the first record.
    """

    def __init__(self, folder: StoragePath) -> None:
        self._folder = folder

    def load_all(self) -> list[TrialRecord]:
        """Return all records, by number."""
        return [_parse(file.read_text()) for file in self._folder.children() if file.name.endswith(".json")]

    def load(self, number: int) -> TrialRecord:
        """Return a trial's record."""
        return _parse(self._path(number).read_text())

    def save(self, record: TrialRecord) -> None:
        """Write a record."""
        self._path(record.number).write_text(json.dumps(asdict(record)))

    def delete(self, number: int) -> None:
        """Forget a trial."""
        self._path(number).delete()

    def _path(self, number: int) -> StoragePath:
        return self._folder / f"{number:06d}.json"


def history_to_json(history: History) -> str:
    """Return a history as text."""
    return json.dumps([asdict(report) for report in history])


def history_from_json(text: str) -> History:
    """Return the history that a text holds."""
    return tuple(EpochReport(**report) for report in json.loads(text))


def _parse(text: str) -> TrialRecord:
    data = json.loads(text)
    history = tuple(EpochReport(**report) for report in data.pop("history"))
    return TrialRecord(**data, history=history)
