"""Stages what a registered version holds: weights, description, profile table and the code that loads them.

The folder is neutral: nothing in it names this machine, this project's location or its package.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pipeline
from pipeline.evaluation.table import ProfileTable
from pipeline.networks import AdaptiveDepthNetwork
from pipeline.weights_file import write_weights

from . import model_code
from .card import model_card
from .origin import Origin

FORMAT_VERSION: Final = 2
PACKAGE: Final = "package"
PROFILES_FILE: Final = "profiles.json"
CHECKSUMS_FILE: Final = "checksums.json"
ORIGIN_FILE: Final = "origin.json"
CARD_FILE: Final = "MODEL_CARD.md"
WEIGHTS_FILE: Final = "model.safetensors"

SHIPPED: Final = (
    "evaluation/__init__.py",
    "evaluation/choices.py",
    "evaluation/conditions.py",
    "evaluation/table.py",
    "networks/*.py",
    "serving/*.py",
)
"""Code of this project that a version holds; it imports nothing else of it."""
ROOT: Final = '"""Code that a registered version is loaded with."""\n'
"""Takes the place of the project's own `__init__.py`, which opens doors to what is not shipped."""


@dataclass(frozen=True)
class Digests:
    """SHA-256 of the parts of a package that decide what it predicts, in hex."""

    weights: str
    code: str
    config: str

    def to_dict(self) -> dict[str, str]:
        """Return the digests by part."""
        return asdict(self)


@dataclass(frozen=True)
class StagedPackage:
    """A package on the local disk.

    Attributes:
        folder: Holds `model.safetensors`, `network.json`, `profiles.json`, `origin.json`, `MODEL_CARD.md`,
            `code/`, and `checksums.json` of all these.
        script: The models-from-code script that loads it.
        digests: What it is known by.
    """

    folder: Path
    script: Path
    digests: Digests


@contextmanager
def staged_package(
    network: AdaptiveDepthNetwork,
    *,
    preprocessing: Mapping[str, Any],
    class_names: Sequence[str],
    table: ProfileTable,
    origin: Origin,
) -> Iterator[StagedPackage]:
    """Write a package into a temporary folder, which is removed afterwards.

    Args:
        network: Where the weights come from; left as it is.
        preprocessing: `image_size` in pixels, `mean` and `std` of the channels, `interpolation`,
            `crop_pct`.
        class_names: Names of the outputs, in their order.
        table: The profile table.
        origin: What the network was made of.
    """
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder = Path(temporary) / PACKAGE
        folder.mkdir()
        write_weights(network.state_dict(), folder / WEIGHTS_FILE)
        weights = _sha256(folder / WEIGHTS_FILE)
        config = _config(network, preprocessing, class_names, weights_sha256=weights)
        (folder / "network.json").write_text(config, encoding="utf-8")
        (folder / PROFILES_FILE).write_text(table.to_json(), encoding="utf-8")
        (folder / ORIGIN_FILE).write_text(origin.to_json(), encoding="utf-8")
        card = model_card(network, preprocessing, class_names, table, origin)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        copies = _copy_code(folder / "code")
        checksums = {
            file.relative_to(folder).as_posix(): _sha256(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2), encoding="utf-8")
        script = Path(temporary) / "adaptive_depth_model.py"
        shutil.copyfile(model_code.__file__, script)
        code = _sha256_of_all([script, *copies])
        yield StagedPackage(folder, script, Digests(weights, code, _sha256(folder / "network.json")))


def _config(
    network: AdaptiveDepthNetwork,
    preprocessing: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    weights_sha256: str,
) -> str:
    config = {
        "format_version": FORMAT_VERSION,
        "network": network.description.to_dict(),
        "preprocessing": dict(preprocessing),
        "class_names": list(class_names),
        "profiles": [str(profile) for profile in network.profiles],
        "weights_sha256": weights_sha256,
    }
    return json.dumps(config, indent=2)


def _copy_code(target: Path) -> list[Path]:
    source, root = Path(pipeline.__file__).parent, target / "__init__.py"
    target.mkdir()
    root.write_text(ROOT)
    copies = [root]
    for file in (found for pattern in SHIPPED for found in sorted(source.glob(pattern))):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copies.append(Path(shutil.copyfile(file, copy)))
    return copies


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sha256_of_all(files: Iterable[Path]) -> str:
    """Return the digest of the files' names and digests, as `sha256sum FILES | sha256sum` gives."""
    listing = "".join(f"{_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()
