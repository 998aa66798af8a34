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


STAGE_COLUMNS = (
    "stage",
    "blocks",
    "mandatory",
    "skippable",
    "MMACs mandatory",
    "MMACs skippable",
    "what must stay",
)
PROFILE_COLUMNS = ("profile", "", "MMACs", "of full", "params (M)")


@dataclass(frozen=True)
class StageReport:
    """One stage: its blocks, and what they cost in multiply-adds for one image.

    Attributes:
        name: As in the backbone.
        mandatory_blocks: That are never skipped.
        skippable_blocks: That are.
        mandatory_macs: Of the stage where it is skipped.
        skippable_macs: What skipping saves.
        obstacle: What must stay, if anything must.
    """

    name: str
    mandatory_blocks: int
    skippable_blocks: int
    mandatory_macs: int
    skippable_macs: int
    obstacle: str | None

    def row(self) -> list[str]:
        """Return text cells."""
        blocks = (self.mandatory_blocks, self.skippable_blocks)
        drawing = BLOCK_MARKS["mandatory"] * blocks[0] + BLOCK_MARKS["skippable"] * blocks[1]
        costs = [f"{macs / 1e6:.1f}" for macs in (self.mandatory_macs, self.skippable_macs)]
        return [self.name, drawing, *map(str, blocks), *costs, self.obstacle or ""]


@dataclass(frozen=True)
class ProfileReport:
    """One depth profile: its multiply-adds an image, and parameters."""

    profile: str
    macs: int
    parameters: int


@dataclass(frozen=True)
class BackboneReport:
    """What a backbone is made of and what its depths cost.

    Attributes:
        backbone: timm's name.
        family: Its class in timm.
        image_size: Height and width in pixels.
        split: Mandatory blocks of every stage.
        stages: The first one first.
        profiles: `full` first and `base` last.
    """

    backbone: str
    family: str
    image_size: int
    split: tuple[int, ...]
    stages: tuple[StageReport, ...]
    profiles: tuple[ProfileReport, ...]

    def summary(self) -> str:
        """Return what the tables are about."""
        return (
            f"{self.backbone} ({self.family}), {self.image_size} pixels, split {list(self.split)}; "
            f"{BLOCK_MARKS['mandatory']} mandatory block, {BLOCK_MARKS['skippable']} skippable block"
        )

    def stage_rows(self) -> list[list[str]]:
        """Return text cells, one row a stage."""
        return [stage.row() for stage in self.stages]

    def profile_rows(self) -> list[list[str]]:
        """Return text cells, one row a profile."""
        full, base = self.profiles[0], self.profiles[-1]
        names = {full.profile: "full", base.profile: "base"}
        return [
            [
                one.profile,
                names.get(one.profile, ""),
                f"{one.macs / 1e6:.1f}",
                f"{one.macs / full.macs:.2f}",
                f"{one.parameters / 1e6:.2f}",
            ]
            for one in self.profiles
        ]


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
        name,
        type(network.backbone).__name__,
        network.image_size,
        tuple(network.split),
        _stages(network),
        _profiles(network),
    )


def _stages(network: AdaptiveDepthNetwork) -> tuple[StageReport, ...]:
    macs = network.segment_macs
    pairs = enumerate(zip(network.layouts, network.split, strict=True), start=1)
    return tuple(
        StageReport(
            layout.name,
            min(point, len(layout.blocks)),
            len(layout.blocks) - min(point, len(layout.blocks)),
            macs.skipped[segment],
            macs.whole[segment] - macs.skipped[segment],
            layout.obstacle,
        )
        for segment, (layout, point) in pairs
    )


def _profiles(network: AdaptiveDepthNetwork) -> tuple[ProfileReport, ...]:
    costs = {str(profile): network.cost(profile) for profile in network.profiles}
    return tuple(ProfileReport(profile, cost.macs, cost.parameters) for profile, cost in costs.items())
