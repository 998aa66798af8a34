"""Tries timm models: what the catalogue is made of, and what a user is told about one that is refused."""

import timm
import torch

from pipeline.networks import AdaptiveDepthNetwork
from pipeline.networks.stages import UnsupportedBackboneError

from .catalogue import CatalogueEntry, load_catalogue


def survey(name: str) -> CatalogueEntry:
    """Build a timm model's shapes, convert them and count what they cost."""
    with torch.device("meta"):
        backbone = timm.create_model(name)
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    family, size = type(backbone).__name__, backbone.pretrained_cfg["input_size"][-1]
    try:
        with torch.device("meta"):
            network = AdaptiveDepthNetwork.from_timm(name)
    except UnsupportedBackboneError as error:
        return CatalogueEntry(name, family, error.reason, "", 0, size, 0, 0, parameters)
    blocks = " ".join(
        f"{len(layout.blocks)}({len(layout.blocks) - point})" if point < len(layout.blocks) else str(point)
        for layout, point in zip(network.layouts, network.split, strict=True)
    )
    full, base = (network.cost(profile).macs for profile in network.extremes)
    num_stages = network.num_skippable_stages
    return CatalogueEntry(name, family, "", blocks, num_stages, network.image_size, full, base, parameters)


def explain(error: ValueError) -> str:
    """Return an error's message; that of a refused model names supported ones of similar size."""
    if not isinstance(error, UnsupportedBackboneError):
        return str(error)
    near = load_catalogue().neighbours(error.name)
    way_out = (
        f"supported and of similar size: {', '.join(near)}" if near else "`skipline backbones` lists others"
    )
    return f"{error}; {way_out}"
