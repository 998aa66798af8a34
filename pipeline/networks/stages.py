"""The stages of a backbone: which modules run them, which blocks they hold, how many may be left out."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from .families import FAMILIES, REFUSALS, Family, family_of
from .probe import BlockFacts, probe_blocks
from .profiles import StageSize, virtual_stages


class UnsupportedBackboneError(ValueError):
    """A timm model that cannot lose blocks.

    Args:
        name: Of the model.
        reason: Which property it lacks.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} cannot become an adaptive depth network: {self.reason}"


@dataclass(frozen=True)
class StageLayout:
    """One stage of a backbone, by dotted paths.

    Attributes:
        name: The stage's module, or the slice of the container that a virtual stage is.
        modules: What runs the stage, in order: its own module, or its blocks where it has none.
        blocks: Its residual blocks.
        size: How many blocks there are and how many of them must stay.
        obstacle: Why not all but the first block can be left out, or None.
    """

    name: str
    modules: tuple[str, ...]
    blocks: tuple[str, ...]
    size: StageSize
    obstacle: str | None


def find_stages(
    backbone: nn.Module, *, name: str, input_shape: tuple[int, ...], num_stages: int | None
) -> tuple[StageLayout, ...]:
    """Return the stages of a timm model.

    Args:
        backbone: A timm model, on any device; left as it is.
        name: What to call it in an error message.
        input_shape: Channels, height and width of one image.
        num_stages: How many virtual stages to group equal blocks in; None takes the default.

    Raises:
        UnsupportedBackboneError: If no block of it can be left out; says which property it lacks.
        ValueError: If it cannot take images of that size, or has no virtual stages whose number could be
            chosen.
    """
    family = require_family(backbone, name)
    try:
        stages = dict(_blocks_by_stage(backbone, family))
    except AttributeError as error:
        raise UnsupportedBackboneError(
            name, f"timm's class runs a stage that is not there ({error})"
        ) from error
    try:
        facts = probe_blocks(backbone, [path for blocks in stages.values() for path in blocks], input_shape)
    except ValueError as error:
        raise ValueError(f"{name} {error}; choose another image size") from error
    if family.stages is None:
        ((_, blocks),) = stages.items()
        layouts = _flat_layouts(blocks, facts, name=name, num_stages=num_stages)
    elif num_stages is not None:
        raise ValueError(
            f"the number of stages can be chosen where all blocks are alike, got {num_stages} for {name}, "
            f"which has {len(stages)} stages of its own; leave it out"
        )
    else:
        layouts = tuple(_layout(path, (path,), blocks, facts) for path, blocks in stages.items())
    if not any(layout.size.is_skippable for layout in layouts):
        obstacles = "; ".join(f"{layout.name}: {layout.obstacle}" for layout in layouts)
        raise UnsupportedBackboneError(name, f"no stage has a block that can be left out ({obstacles})")
    return layouts


def require_family(backbone: nn.Module, name: str) -> Family:
    """Return the row of a timm model; raises UnsupportedBackboneError if there is none or it objects."""
    family = family_of(backbone)
    if family is None:
        kind = type(backbone).__name__
        unknown = f"no row of the {len(FAMILIES)} supported families tells its stages"
        raise UnsupportedBackboneError(name, f"{REFUSALS.get(kind, unknown)} (timm class {kind})")
    if family.objection and (reason := family.objection(backbone)):
        raise UnsupportedBackboneError(name, reason)
    return family


def _blocks_by_stage(backbone: nn.Module, family: Family) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the path of every stage's module and those of its blocks; without stages all under one path."""
    if family.stages is None:
        yield "", tuple(_matches(backbone, family.blocks))
        return
    for pattern in family.stages:
        for path in _matches(backbone, pattern):
            stage = backbone.get_submodule(path)
            yield path, tuple(f"{path}.{block}" for block in _matches(stage, family.blocks))


def _matches(module: nn.Module, pattern: str) -> Iterator[str]:
    """Yield the paths that a pattern means: `*` at its end stands for every child."""
    *parents, last = pattern.split(".")
    if last != "*":
        yield pattern
        return
    try:
        parent = module.get_submodule(".".join(parents))
    except AttributeError:
        return
    yield from (".".join([*parents, child]) for child, _ in parent.named_children())


def _flat_layouts(
    blocks: Sequence[str], facts: Mapping[str, BlockFacts], *, name: str, num_stages: int | None
) -> tuple[StageLayout, ...]:
    """Return the stages of blocks in one container: cut where the shape changes, else virtual ones."""
    starts = [index for index, block in enumerate(blocks) if index and facts[block].obstacle]
    if not starts:
        sizes = virtual_stages(len(blocks), num_stages, network=name)
        starts = [sum(sizes[:index]) for index in range(1, len(sizes))]
    elif num_stages is not None:
        raise ValueError(
            f"the number of stages can be chosen where all blocks are alike, got {num_stages} for {name}, "
            "whose blocks change the shape; leave it out"
        )
    bounds = [0, *starts, len(blocks)]
    container = blocks[0].rpartition(".")[0]
    return tuple(
        _layout(f"{container}[{start}:{end}]", blocks[start:end], blocks[start:end], facts)
        for start, end in itertools.pairwise(bounds)
    )


def _layout(
    name: str, modules: Sequence[str], blocks: Sequence[str], facts: Mapping[str, BlockFacts]
) -> StageLayout:
    """Return a stage whose blocks can be left out from the end up to the first obstacle."""
    obstacles = [(number, _obstacle(facts.get(block))) for number, block in enumerate(blocks, start=1)]
    last, reason = max(((number, text) for number, text in obstacles if text), default=(1, None))
    obstacle = None
    if len(blocks) < 2:
        obstacle = "has one block" if blocks else "has no blocks"
    elif last > 1:
        obstacle = f"block {last} of {len(blocks)} {reason}"
    size = StageSize(max(1, len(blocks)), min_mandatory=last)
    return StageLayout(name, tuple(modules), tuple(blocks), size, obstacle)


def _obstacle(facts: BlockFacts | None) -> str | None:
    return "did not run" if facts is None else facts.obstacle
