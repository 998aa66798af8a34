"""Takes one depth of a registered version, or all, out of the registry as files for other runtimes."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mlflow.tracking import MlflowClient
from torch import Tensor

from pipeline.errors import JobError, RequestError
from pipeline.evaluation.table import ProfileTable
from pipeline.serving import Wanted, choose

from .formats import FORMATS, Format
from .loading import LoadedVersion, loaded_version

FACTS_FILE = "model.json"
CODE_FOLDER = "adaptive_depth"

MAX_DIFFERENCE = 1e-4
"""Of logits, as a share of the largest; chosen: ten times what any family shows in docs/onnx.md."""

NUM_IMAGES = 3
"""Of a comparison; not the batch that a program was traced with."""

LOADER = '''"""Loads the network beside this file; needs torch, torchvision, timm and safetensors."""

import json
from pathlib import Path

import torch
from adaptive_depth.networks import NetworkDescription
from safetensors.torch import load_file

HERE = Path(__file__).parent


def load() -> torch.nn.Module:
    """Return the network, for normalised images; with all depths its `forward` also takes a profile."""
    facts = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    network = NetworkDescription(**facts["network"]).build()
    module = network.subnetwork(facts["profile"]) if facts["profile"] else network
    path = HERE / facts["file"]
    is_safetensors = path.suffix == ".safetensors"
    weights = load_file(path) if is_safetensors else torch.load(path, weights_only=True)
    module.load_state_dict(weights)
    return module.eval()
'''


@dataclass(frozen=True)
class Pulled:
    """What was written.

    Attributes:
        version: `models:/NAME/VERSION`.
        folder: Where.
        file: The network itself.
        num_bytes: Its size, with weights that lie beside it.
        profile: The depth, in letters; None is all of them.
        differences: By profile: the largest difference of a logit from PyTorch's, as a share of the largest
            logit.
    """

    version: str
    folder: Path
    file: Path
    num_bytes: int
    profile: str | None
    differences: Mapping[str, float]


def pull(
    client: MlflowClient,
    model_uri: str,
    *,
    format_name: str,
    folder: Path,
    params: Mapping[str, Any] | None,
    on_progress: Callable[[int, int], None],
) -> Pulled:
    """Write a version's network to a folder, read it back, and compare it with PyTorch.

    Besides the network the folder gets `model.json`, which tells how images become its input, its classes and
    what the depth reaches; weights get the code that loads them, and `load.py`.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        format_name: One of `FORMATS`.
        folder: Made; must be empty or absent.
        params: Which depth, as for the model's `predict`; None is all of them.
        on_progress: Told how many profiles of how many have been compared.

    Raises:
        RequestError: If there is no such version or depth, the folder holds files, or a package is missing.
        JobError: If the files do not compute what PyTorch does; they are removed.
    """
    kind = FORMATS[format_name]
    kind.require()
    if folder.exists() and any(folder.iterdir()):
        raise RequestError(f"an output folder must be empty or absent, {folder} holds files; name another")
    with loaded_version(client, model_uri) as loaded:
        network = loaded.model.network
        profile = None if params is None else network.parse_profile(choose_profile(loaded, params))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            kind.write(network, profile, new / kind.file_name)
            num_bytes = sum(file.stat().st_size for file in new.iterdir())
            differences = compare(loaded, kind, profile, new / kind.file_name, on_progress)
            facts = describe(loaded, kind, profile, differences)
            (new / FACTS_FILE).write_text(json.dumps(facts, indent=2), encoding="utf-8")
            if not kind.holds_code:
                shutil.copytree(loaded.package / "code", new / CODE_FOLDER)
                (new / "load.py").write_text(LOADER, encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            new.rename(folder)
        letters = None if profile is None else str(profile)
        file = folder / kind.file_name
        return Pulled(loaded.version.uri, folder, file, num_bytes, letters, differences)


def choose_profile(loaded: LoadedVersion, params: Mapping[str, Any]) -> str:
    """Return the letters of the depth that parameters ask for, as the model itself chooses.

    Raises:
        RequestError: If they contradict each other, or no depth is within the budget.
    """
    try:
        wanted = Wanted.read(params)
        if wanted.budget is None:
            return str(loaded.model.network.parse_profile(wanted.profile or "full"))
        return choose(calibrated_table(loaded), wanted.budget).profile
    except ValueError as error:
        message = str(error)
    raise RequestError(message)


def calibrated_table(loaded: LoadedVersion) -> ProfileTable:
    """Return the profile table with the latencies that were measured on this machine, if any were."""
    return ProfileTable.from_json(loaded.model.current_table().to_json())


def compare(
    loaded: LoadedVersion,
    kind: Format,
    profile: Any | None,  # noqa: ANN401
    path: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, float]:
    """Return by profile how far a file's logits are from PyTorch's.

    Raises:
        JobError: If one is too far.
    """
    network = loaded.model.network
    run = kind.read(network, profile, path)
    images = example_images(loaded)
    profiles = network.profiles if profile is None else [profile]
    differences: dict[str, float] = {}
    with torch.inference_mode():
        for asked in profiles:
            expected = network(images, asked)
            difference = (run(images, asked) - expected).abs().max() / expected.abs().max()
            differences[str(asked)] = float(difference)
            on_progress(len(differences), len(profiles))
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= MAX_DIFFERENCE:
        raise JobError(
            f"an exported file must compute what PyTorch does up to {MAX_DIFFERENCE:g} of the largest logit, "
            f"{kind.file_name} differs by {differences[worst]:.2g} at {worst}; nothing was written, take "
            "another format"
        )
    return differences


def example_images(loaded: LoadedVersion) -> Tensor:
    """Return the same normalised images at every call, shape (B, channels, height, width)."""
    preprocessing = loaded.model.config["preprocessing"]
    mean, std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))
    shape = (NUM_IMAGES, *loaded.model.network.input_shape)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return (images - mean) / std


def describe(
    loaded: LoadedVersion,
    kind: Format,
    profile: Any | None,  # noqa: ANN401
    differences: Mapping[str, float],
) -> dict[str, Any]:
    """Return what a user of the file has to know, as plain data."""
    config = loaded.model.config
    rows = [asdict(row) for row in loaded.table.results if profile is None or row.profile == str(profile)]
    return {
        "version": loaded.version.uri,
        "weights_sha256": config["weights_sha256"],
        "file": kind.file_name,
        "profile": None if profile is None else str(profile),
        "network": config["network"],
        "input_shape": list(loaded.model.network.input_shape),
        "preprocessing": config["preprocessing"],
        "class_names": config["class_names"],
        "reached": rows,
        "counted_on": loaded.table.images,
        "latency": asdict(loaded.table.latency),
        "difference_from_torch": dict(differences),
    }
