"""What `skipline inspect` tells about a backbone without weights: stages, split, every profile's cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.errors import RequestError
from pipeline.networks import AdaptiveDepthNetwork, NetworkDescription
from pipeline.networks.adaptive import Split

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
    split: Split,
    kwargs: Mapping[str, Any],
) -> BackboneReport:
    """Build a backbone's shapes and price every profile.

    Raises:
        RequestError: If it cannot be made adaptive, or cannot take images of that size.
    """
    description = NetworkDescription(name, 1000, split, image_size, small_images, kwargs)
    try:
        with torch.device("meta"):
            network = description.build()
        network.segment_macs  # noqa: B018  counted here, because counting finds sizes that do not fit
    except ValueError as error:
        raise RequestError(str(error)) from error
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
        ),
        stage_rows=_stage_rows(network),
        profile_columns=("profile", "", "MMACs", "of full", "params (M)"),
        profile_rows=_profile_rows(network),
    )


def _stage_rows(network: AdaptiveDepthNetwork) -> list[list[str]]:
    macs = network.segment_macs
    rows = []
    for index, (layout, stage) in enumerate(zip(network.layouts, network.stages, strict=True)):
        num_mandatory, num_skippable = len(stage.whole), len(stage.skippable)
        drawing = BLOCK_MARKS["mandatory"] * num_mandatory + BLOCK_MARKS["skippable"] * num_skippable
        costs = [f"{count / 1e6:.1f}" for count in (macs.mandatory[index], macs.skippable[index])]
        name = f"{layout.container}[{layout.blocks[0]}:{int(layout.blocks[-1]) + 1}]"
        rows.append([name, drawing, str(num_mandatory), str(num_skippable), *costs])
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
