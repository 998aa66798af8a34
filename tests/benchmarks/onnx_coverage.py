"""Every profile of one small network a family as ONNX, compared with PyTorch in onnxruntime.

Run:      python -m tests.benchmarks.onnx_coverage [FAMILY ...]
Expect:   a relative error below 1e-4 for every family; half an hour on two idle cores
Writes:   docs/onnx.md, if no family was named; prints every family's row
"""

import importlib.metadata
import math
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from rich.console import Console

from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.export import export_all_profiles, export_profile, write_onnx
from pipeline.networks.families import FAMILIES
from pipeline.networks.switched import profile_tensor
from tests.networks.instances import INSTANCES
from tests.networks.training import as_after_some_training

DOCUMENT = Path(__file__).parents[2] / "docs" / "onnx.md"

MAX_LETTERS = 2
"""Chosen: more than four profiles a family would take hours."""

SHALLOW = {"depths": (2, 2, 1, 1)}
FEWER_BLOCKS: dict[str, dict[str, Any]] = {
    "ResNet": {"layers": (2, 2, 1, 1)},
    "ResNetV2": {"layers": (2, 2, 1, 1)},
    "ConvNeXt": SHALLOW,
    "MetaNeXt": SHALLOW,
    "MambaOut": SHALLOW,
    "FasterNet": SHALLOW,
    "FastVit": {"layers": (2, 2, 1, 1)},
    "RepVit": {"depth": (2, 2, 1, 1)},
    "SwiftFormer": {"layers": (3, 3, 1, 1)},
    "EfficientFormer": {"depths": (2, 1, 1, 3)},
    "EfficientFormerV2": {"depths": (2, 1, 2, 3)},
    "EdgeNeXt": {"depths": (2, 2, 2, 2)},
    "SHViT": {"depth": (2, 2, 1)},
    "SwinTransformer": {"depths": (2, 2), "num_heads": (1, 2)},
    "SwinTransformerV2": {"depths": (2, 2), "num_heads": (1, 2)},
    "DaVit": SHALLOW,
    "PyramidVisionTransformerV2": SHALLOW,
    "Levit": {"depth": (2, 2, 1)},
    "LevitDistilled": {"depth": (2, 2, 1)},
    "PoolingVisionTransformer": {"depth": (2, 2, 1)},
    "Hiera": {"stages": (2, 2, 1, 1)},
}
"""timm's arguments that make the small instance of a family smaller still."""


@dataclass(frozen=True)
class Row:
    """What was found for one family.

    Attributes:
        family: Name of the timm class.
        network: What was exported.
        num_profiles: All of the network's.
        separate: Largest relative error of the profiles, each a file of its own, or what stopped them.
        together: The same for one file that takes the profile as an input.
    """

    family: str
    network: NetworkDescription
    num_profiles: int
    separate: float | str
    together: float | str

    def __str__(self) -> str:
        found = " | ".join(
            f"{value:.1e}" if isinstance(value, float) else value for value in (self.separate, self.together)
        )
        return f"| {self.family} | {_text(self.network)} | {self.num_profiles} | {found} |"


def cover(family: str, folder: Path) -> Row:
    """Export and compare one network of a family, both ways.

    Args:
        family: Name of the timm class.
        folder: For the ONNX files.
    """
    torch.manual_seed(0)
    network = as_after_some_training(build(family))
    path = folder / "network.onnx"
    return Row(
        family,
        network.description,
        len(network.profiles),
        _error_or_obstacle(lambda: worst_error_of_separate_files(network, path)),
        _error_or_obstacle(lambda: worst_error_of_one_file(network, path)),
    )


def build(family: str) -> AdaptiveDepthNetwork:
    """Build the smallest network of a family, with at most MAX_LETTERS skippable stages."""
    smallest = INSTANCES[family][0]
    description = replace(smallest, kwargs={**smallest.kwargs, **FEWER_BLOCKS.get(family, {})})
    network = description.build()
    skippable = [
        stage for stage, layout in enumerate(network.layouts) if network.split[stage] < layout.size.blocks
    ]
    split = [
        layout.size.blocks if stage in skippable[MAX_LETTERS:] else point
        for stage, (layout, point) in enumerate(zip(network.layouts, network.split, strict=True))
    ]
    return replace(description, split=split).build()


def worst_error_of_separate_files(network: AdaptiveDepthNetwork, path: Path) -> float:
    """Return the largest relative error of all profiles, each exported to `path` in turn."""
    errors = []
    for profile in network.profiles:
        write_onnx(export_profile(network, profile), path)
        images = _images(network)
        logits = _run(_session(path), images=images)
        errors.append(_relative_error(logits, network(images, profile)))
    return max(errors)


def worst_error_of_one_file(network: AdaptiveDepthNetwork, path: Path) -> float:
    """Return the largest relative error of all profiles of one file with the profile as an input."""
    write_onnx(export_all_profiles(network), path)
    session = _session(path)
    images = _images(network)
    return max(
        _relative_error(_run(session, images=images, skips=profile_tensor(profile)), network(images, profile))
        for profile in network.profiles
    )


def _error_or_obstacle(measure: Callable[[], float]) -> float | str:
    try:
        with torch.no_grad():
            return measure()
    except Exception as error:  # noqa: BLE001 whatever stops a family is a line of the table
        return obstacle(error)


def obstacle(error: BaseException) -> str:
    """Return the operator that stopped an export, where the error names one, and the first cause."""
    operator = re.search(r"torch\.ops\.([\w.]+)", str(error))
    while error.__cause__:
        error = error.__cause__
    reason = next(iter(str(error).splitlines()), "")
    return f"{f'`{operator[1]}`: ' if operator else ''}{type(error).__name__}: {reason}".replace("|", "/")


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of every constant that it does not fold
    return onnxruntime.InferenceSession(path, options)


def _images(network: AdaptiveDepthNetwork) -> torch.Tensor:
    """Return three images: another batch than the one that was traced."""
    return torch.rand(3, *network.input_shape, generator=torch.Generator().manual_seed(1))


def _run(session: onnxruntime.InferenceSession, **inputs: torch.Tensor) -> torch.Tensor:
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(logits)


def _relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    error = float((actual - expected).abs().max() / expected.abs().max())
    return math.inf if math.isnan(error) else error


def _text(network: NetworkDescription) -> str:
    kwargs = ", ".join(f"{name}={value}" for name, value in network.kwargs.items())
    return f"{network.backbone}{f' ({kwargs})' if kwargs else ''}, split {list(network.split)}"


def document(rows: list[Row]) -> str:
    """Return the page: how it was made, what was found."""
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("torch", "timm", "onnx", "onnxscript", "onnxruntime")
    )
    return "\n".join(
        [
            "# ONNX export, family by family",
            "",
            f"Generated by `python -m tests.benchmarks.onnx_coverage` with {versions}.",
            "",
            "One small network a family with random weights and norms, every profile of it exported with",
            "`export_profile` to a file of its own, and all of them with `export_all_profiles` to one file",
            "that takes the profile as an input. Three random images, another batch than the traced one, ran",
            "in onnxruntime (CPU) and in PyTorch. The error is the largest over profiles, images, classes:",
            "max abs(onnx - torch) / max abs(torch). What stops a family stands in place of its error. A",
            f"split leaves at most {MAX_LETTERS} stages skippable, which is {2**MAX_LETTERS} profiles.",
            "",
            "| family | network | profiles | a file each | one file |",
            "| --- | --- | ---: | ---: | ---: |",
            *map(str, rows),
            "",
        ]
    )


def _cover_and_time(family: str) -> tuple[Row, float]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        return cover(family, Path(folder)), time.monotonic() - start


def main(families: list[str]) -> None:
    """Cover families, all of them by default, and write the page if they are all."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    rows = []
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawned, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for row, seconds in pool.map(_cover_and_time, families or FAMILIES):
            rows.append(row)
            console.print(f"{row} {seconds:.0f} s")
    if not families:
        DOCUMENT.write_text(document(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
