"""How a training run ended, as it is kept in the job's folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Self

from pipeline.storage import StoragePath

from .epochs import EpochReport, History


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        checkpoint: Folder of the best checkpoint.
        history: All epochs of the run.
    """

    checkpoint: StoragePath
    history: History

    def to_json(self) -> str:
        """Return it as text; the checkpoint by name, so that the folder of a job may be moved."""
        history = [asdict(report) for report in self.history]
        return json.dumps({"checkpoint": self.checkpoint.name, "history": history})

    @classmethod
    def from_json(cls, text: str, run: StoragePath) -> Self:
        """Read what `to_json` wrote about the run in a folder."""
        data = json.loads(text)
        history = tuple(EpochReport(**report) for report in data["history"])
        return cls(run / PurePosixPath(data["checkpoint"]).name, history)
