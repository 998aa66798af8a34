"""The model card: what a version is, what it was made of, what it reaches, and what nobody has looked at."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.evaluation.table import ProfileResult, ProfileTable
from pipeline.networks import AdaptiveDepthNetwork

from .origin import Origin

MAX_NAMES = 50
"""Of classes that a card lists; chosen."""

METHOD = (
    "Trained as an adaptive depth network with skippable sub-paths (NeurIPS 2024, arXiv 2312.16392): every "
    "stage has blocks that always run and blocks that may be skipped, and one self-distillation taught both "
    "kinds of depth. A profile has one letter a stage that can lose blocks: F runs all of it, T skips its "
    "second part."
)


def model_card(
    network: AdaptiveDepthNetwork,
    preprocessing: Mapping[str, Any],
    class_names: Sequence[str],
    table: ProfileTable,
    origin: Origin,
) -> str:
    """Return the card as Markdown.

    Args:
        network: What is registered.
        preprocessing: How images become its input.
        class_names: Names of its outputs, in their order.
        table: What its profiles reach and cost.
        origin: What it was made of.
    """
    sections = {
        "Data": _data(class_names, table, origin),
        "Split": _split(network),
        "Profiles": _profiles(table),
        "Input": _input(network, preprocessing),
        "Recipe": f"```yaml\n{yaml.safe_dump(dict(origin.settings), sort_keys=False).rstrip()}\n```",
        "Limits": _limits(network, table),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {origin.job}: {network.name} at {len(network.profiles)} depths\n\n{METHOD}\n\n{body}\n"


def _data(class_names: Sequence[str], table: ProfileTable, origin: Origin) -> str:
    data = origin.settings.get("data", {})
    validation = data.get("validation")
    held_out = validation or f"held out of them, {data.get('validation_fraction', 0):g} of each class"
    names = ", ".join(class_names[:MAX_NAMES])
    more = len(class_names) - MAX_NAMES
    return "\n".join(
        [
            f"- {origin.training.num_images} training images: {data.get('train', 'unknown')}",
            f"- {table.num_images} validation images: {held_out}",
            f"- accuracies below are on {table.images}; there was no test set",
            f"- {len(class_names)} classes: {names}{f' and {more} more' if more > 0 else ''}",
        ]
    )


def _split(network: AdaptiveDepthNetwork) -> str:
    lines = ["| stage | blocks | always run | can be skipped |", "| --- | ---: | ---: | ---: |"]
    for layout, mandatory in zip(network.layouts, network.split, strict=True):
        blocks = layout.size.blocks
        lines.append(f"| {layout.name} | {blocks} | {mandatory} | {blocks - mandatory} |")
    return "\n".join(lines)


def _profiles(table: ProfileTable) -> str:
    worst = max(_standard_error(row, table.num_images) for row in table.results)
    return (
        f"{table.to_markdown()}\n\n"
        f"The standard error of a top-1 on so many images is up to {worst:.4f}; smaller differences between "
        "profiles mean nothing."
    )


def _input(network: AdaptiveDepthNetwork, preprocessing: Mapping[str, Any]) -> str:
    channels, height, width = network.input_shape
    mean, std = (", ".join(f"{value:g}" for value in preprocessing[name]) for name in ("mean", "std"))
    read = "read as grey, of 16 bits in full, and " if channels == 1 else ""
    return (
        f"{channels} x {height} x {width}; PNG and JPEG files are {read}resized "
        f"({preprocessing['interpolation']}, crop {preprocessing['crop_pct']:g}). The model itself "
        f"normalises by mean {mean} and standard deviation {std}."
    )


def _limits(network: AdaptiveDepthNetwork, table: ProfileTable) -> str:
    untrained = [row.profile for row in table.results if not row.trained]
    limits = [
        "Accuracies hold for images like the validation images. Nobody has looked at other sources, at "
        "shifts over time, at adversarial images, or at single groups of images.",
        f"Latencies hold for {table.latency}, and for nothing else: `calibrate()` measures them elsewhere.",
        f"Every image gets one of the {network.description.num_classes} classes, also one that shows none "
        "of them.",
        "Probabilities are not calibrated.",
    ]
    if untrained:
        limits.append(
            f"{len(untrained)} of {len(table.results)} profiles were not trained themselves, only measured; "
            "they run because skipped parts refine features and change them little."
        )
    return "\n".join(f"- {limit}" for limit in limits)


def _standard_error(row: ProfileResult, num_images: int) -> float:
    return math.sqrt(row.top1 * (1 - row.top1) / num_images)
