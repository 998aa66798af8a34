"""What one letter of a depth profile changes in a backbone: norms it exchanges, blocks it removes."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from .families import Family
from .norms import norm_paths
from .profiles import SKIPPED, WHOLE
from .stages import StageLayout


@dataclass(frozen=True)
class Skip:
    """What a stage's letter T means, by dotted paths of the backbone.

    Attributes:
        stage: Number of the stage, from 0.
        norms: Exchanged for their second set.
        blocks: Left out.
    """

    stage: int
    norms: tuple[str, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Letters:
    """Which letter each segment follows: a number from 0, or None where all profiles agree.

    A path is the letters that a profile has shown when a segment runs: those up to the highest letter of the
    segments so far. Profiles of one path share all that was computed.

    Attributes:
        segments: Letters of the stem, of every stage, of the head.
    """

    segments: tuple[int | None, ...]

    def length(self, segment: int) -> int:
        """Return how many letters a path to a segment has."""
        return 1 + max((letter for letter in self.segments[: segment + 1] if letter is not None), default=-1)

    def paths(self, segment: int) -> list[str]:
        """Return all paths to a segment, the whole one first and the skipped one last."""
        return ["".join(path) for path in itertools.product(WHOLE + SKIPPED, repeat=self.length(segment))]

    def skips(self, segment: int, path: str) -> bool:
        """Return whether a path to a segment runs its skipped form."""
        letter = self.segments[segment]
        return letter is not None and path[letter] == SKIPPED


def assign_letters(
    layouts: Sequence[StageLayout], split: Sequence[int], *, follows_neighbours: bool
) -> Letters:
    """Return the letter of every segment.

    Args:
        layouts: Of all stages.
        split: Mandatory blocks of every stage.
        follows_neighbours: Parts that cannot be skipped follow the skippable stage before them, or the first
            one where there is none.

    Source: arXiv:2312.16392, MobileNetV2.
    """
    stages: list[int | None] = []
    num_letters = 0
    for layout, point in zip(layouts, split, strict=True):
        if point < layout.size.blocks:
            stages.append(num_letters)
            num_letters += 1
        else:
            stages.append(max(0, num_letters - 1) if follows_neighbours else None)
    stem, head = (0, num_letters - 1) if follows_neighbours else (None, None)
    return Letters((stem, *stages, head))


def plan_skips(
    backbone: nn.Module,
    family: Family,
    layouts: Sequence[StageLayout],
    split: Sequence[int],
    letters: Letters,
    *,
    has_skip_norms: bool,
) -> tuple[Skip, ...]:
    """Return what every letter changes, the first letter first.

    Args:
        backbone: A timm model.
        family: Its row.
        layouts: Of all stages.
        split: Mandatory blocks of every stage.
        letters: Which letter each segment follows.
        has_skip_norms: False leaves all norms shared.
    """
    stem, *of_stages, head = letters.segments
    parts = {
        path: letter for layout, letter in zip(layouts, of_stages, strict=True) for path in layout.modules
    }
    parts |= {step: stem for step in family.stem if isinstance(step, str)}
    stages = [stage for stage, point in enumerate(split) if point < layouts[stage].size.blocks]
    removed = {stage: layouts[stage].blocks[split[stage] :] for stage in stages}
    all_removed = {block for blocks in removed.values() for block in blocks}
    norms: dict[int | None, list[str]] = defaultdict(list)
    for norm in norm_paths(backbone, shared=family.shared_norms) if has_skip_norms else ():
        ancestors = _ancestors(norm)
        if not all_removed & set(ancestors):
            letter = next((parts[path] for path in ancestors if path in parts), head)
            norms[letter].append(norm)
    return tuple(Skip(stage, tuple(norms[letter]), removed[stage]) for letter, stage in enumerate(stages))


def _ancestors(path: str) -> list[str]:
    """Return a dotted path and all its beginnings, the longest first."""
    steps = path.split(".")
    return [".".join(steps[:end]) for end in range(len(steps), 0, -1)]
