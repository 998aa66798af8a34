"""What is stored about a training of a comparison once it has ended: one JSON file each."""

import json
from dataclasses import asdict, dataclass

from pipeline.storage import StoragePath
from pipeline.training.epochs import EpochReport, History

from .trainings import BaselineTraining


@dataclass(frozen=True)
class BaselineRecord:
    """A training that has ended, with all of its epochs."""

    training: BaselineTraining
    history: History


class BaselineRecords:
    """The records of a comparison in a folder, beside the runs.

    Args:
        folder: Made with the first record.
    """

    def __init__(self, folder: StoragePath) -> None:
        self._folder = folder

    def load_all(self) -> list[BaselineRecord]:
        """Return all records."""
        files = self._folder.children() if self._folder.exists() else []
        return [_parse(file.read_text()) for file in files if file.name.endswith(".json")]

    def save(self, record: BaselineRecord) -> None:
        """Write a record: its training is done."""
        (self._folder / f"{record.training.name}.json").write_text(json.dumps(asdict(record)))


def _parse(text: str) -> BaselineRecord:
    data = json.loads(text)
    history = tuple(EpochReport(**report) for report in data["history"])
    return BaselineRecord(BaselineTraining(**data["training"]), history)
