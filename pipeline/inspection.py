"""What `skipline inspect` tells about a backbone without weights: stages, split, every profile's cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.adaptive import Split
from pipeline.survey import explain

BLOCK_MARKS = {"mandatory": "■", "skippable": "□"}


@dataclass(frozen=True)
class BackboneReport:
    """Text cells for a terminal: one row a stage, one row a profile."""

    summary: str
    stage_columns: tuple[str, ...]
    stage_rows: list[list[str]]
    profile_columns: tuple[str, ...]
    profile_rows: list[list[str]]


def inspect_backbone(
    name: str,
    *,
    image_size: int | None,
    small_images: bool,
    num_stages: int | None,
    split: Split,
    kwargs: Mapping[str, Any],
) -> BackboneReport:
    """Build a backbone's shapes and price every profile.

    Raises:
        RequestError: If it cannot be made adaptive, or cannot take images of that size.
    """
    description = NetworkDescription(
        name,
        1000,
        split,
        image_size=image_size,
        small_images=small_images,
        num_stages=num_stages,
        kwargs=kwargs,
    )
    try:
        with torch.device("meta"):
            network = description.build()
    except ValueError as error:
        raise RequestError(explain(error)) from error
    return BackboneReport(
        summary=(
            f"{name} ({type(network.backbone).__name__}), {network.image_size} pixels, "
            f"split {list(network.split)}; "
            f"{BLOCK_MARKS['mandatory']} mandatory block, {BLOCK_MARKS['skippable']} skippable block"
        ),
        stage_columns=(
            "stage",
            "blocks",
            "mandatory",
            "skippable",
            "MMACs mandatory",
            "MMACs skippable",
            "what must stay",
        ),
        stage_rows=_stage_rows(network),
        profile_columns=("profile", "", "MMACs", "of full", "params (M)"),
        profile_rows=_profile_rows(network),
    )


def _stage_rows(network: AdaptiveDepthNetwork) -> list[list[str]]:
    macs = network.segment_macs
    rows = []
    for segment, (layout, point) in enumerate(zip(network.layouts, network.split, strict=True), start=1):
        num_blocks = len(layout.blocks)
        drawing = BLOCK_MARKS["mandatory"] * point + BLOCK_MARKS["skippable"] * (num_blocks - point)
        skipped = macs.skipped[segment]
        costs = [f"{count / 1e6:.1f}" for count in (skipped, macs.whole[segment] - skipped)]
        rows.append(
            [
                layout.name,
                drawing,
                str(min(point, num_blocks)),
                str(num_blocks - point),
                *costs,
                layout.obstacle or "",
            ]
        )
    return rows


def _profile_rows(network: AdaptiveDepthNetwork) -> list[list[str]]:
    full = network.cost("full").macs
    names = dict(zip(network.extremes, ("full", "base"), strict=True))
    rows = []
    for profile in network.profiles:
        cost = network.cost(profile)
        share = f"{cost.macs / full:.2f}"
        rows.append(
            [
                str(profile),
                names.get(profile, ""),
                f"{cost.macs / 1e6:.1f}",
                share,
                f"{cost.parameters / 1e6:.2f}",
            ]
        )
    return rows
