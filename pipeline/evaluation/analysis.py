"""What is known of a network beside its profile table: where its depths differ, and what its blocks do."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from pipeline.networks import AdaptiveDepthNetwork

from .comparison import ClassAccuracy


@dataclass(frozen=True)
class ShownImage:
    """An image that `full` and `base` take for different classes.

    Attributes:
        label: Its class.
        full: What `full` takes it for.
        base: What `base` takes it for.
        full_probability: That `full` gives to the label, in [0, 1].
        base_probability: That `base` gives to the label.
        png: The image as a PNG file, in base64.
    """

    label: int
    full: int
    base: int
    full_probability: float
    base_probability: float
    png: str


@dataclass(frozen=True)
class BlockChange:
    """How much one block changes what flows through it; see `measure_block_changes`.

    Attributes:
        stage: Number of its stage, from 0.
        block: Its path in the backbone.
        is_skippable: Whether a profile can leave it out.
        before: In the network as training started; None where the block changes the shape.
        after: In the trained network.
    """

    stage: int
    block: str
    is_skippable: bool
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Analysis:
    """What the evaluation of a checkpoint found beside the profile table.

    Attributes:
        agreement: Share of the validation images that a profile takes for the same class as `full`, by
            profile.
        classes: What `full` and `base` get right of every class.
        shown: Images on which these two differ, those first about whose label they are furthest apart.
        blocks: Every block of every stage, in the order in which they run.
    """

    agreement: Mapping[str, float]
    classes: tuple[ClassAccuracy, ...]
    shown: tuple[ShownImage, ...]
    blocks: tuple[BlockChange, ...]

    def to_json(self) -> str:
        """Return it as JSON text that `from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(
            agreement=data["agreement"],
            classes=tuple(ClassAccuracy(**entry) for entry in data["classes"]),
            shown=tuple(ShownImage(**entry) for entry in data["shown"]),
            blocks=tuple(BlockChange(**entry) for entry in data["blocks"]),
        )


def compare_blocks(
    network: AdaptiveDepthNetwork,
    *,
    before: Mapping[str, float | None],
    after: Mapping[str, float | None],
) -> tuple[BlockChange, ...]:
    """Return what every block of a network does, by measurements before and after training."""
    skippable = set(network.left_out("base"))
    return tuple(
        BlockChange(stage, block, block in skippable, before[block], after[block])
        for stage, layout in enumerate(network.layouts)
        for block in layout.blocks
    )
