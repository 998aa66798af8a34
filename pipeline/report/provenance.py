"""What a job was started by and with: kept with its results, so that somebody else can do it again."""

import json
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Self

from pipeline.doctor.software import SHOWN, version_of
from pipeline.registry.masking import mask_credentials

PACKAGES = ("skipline", *SHOWN)


@dataclass(frozen=True)
class Provenance:
    """Of the first command that worked on a job.

    Attributes:
        command: As it was typed; credentials in addresses are masked.
        started: When, in ISO 8601 and UTC.
        machine: System, processor and version of Python.
        versions: Of the packages that matter, by name.
    """

    command: str
    started: str
    machine: str
    versions: Mapping[str, str]

    @classmethod
    def of_this_process(cls) -> Self:
        """Return that of the process that calls."""
        return cls(
            command=mask_credentials(_command(sys.argv)),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            versions={name: version for name in PACKAGES if (version := version_of(name))},
        )

    def to_json(self) -> str:
        """Return it as JSON text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def _command(argv: list[str]) -> str:
    program = PurePath(argv[0])
    # `python -m pipeline` is the same program by another name.
    name = "skipline" if program.parts[-2:] == ("pipeline", "__main__.py") else program.name
    return shlex.join([name, *argv[1:]])
