"""Running statistics of norms, kept apart for every path through the stages.

A norm that remembers the mean and variance of its input (BatchNorm) sees another input behind every
combination of whole and skipped stages before it. Training runs two of these paths, so a stage's statistics
are wrong wherever whole and skipped stages mix. Path statistics give every path its own: a path is the
letters up to a segment, so 16 profiles of four stages have 30 paths, which are walked once.

Two paths of every norm need no set of their own. The whole one has the norm's buffers, so `backbone.*` is a
timm model that predicts what `full` does; the skipped one has those of the skip-aware norm, where there is
one.

Source: that depths which share weights need statistics of their own is Yu et al. 2019, arXiv:1812.08928;
taking them after training is Yu and Huang 2019, arXiv:1903.05134, section 3.
"""

import copy
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from .families import Family, run_steps
from .meta import on_meta
from .norms import NORMS
from .profiles import SKIPPED, WHOLE
from .rewire import insert, is_within
from .skips import Letters, Skip
from .stages import StageLayout

STATISTICS = ("running_mean", "running_var")


def keeps_statistics(module: nn.Module) -> bool:
    """Return whether a module is a norm that remembers statistics of what it has seen."""
    return isinstance(module, NORMS) and any(module._buffers.get(name) is not None for name in STATISTICS)


def locate_statistics(
    backbone: nn.Module, family: Family, layouts: Sequence[StageLayout], *, input_shape: tuple[int, ...]
) -> dict[str, int]:
    """Return which segment runs each norm that keeps statistics: 0 is the stem, then the stages, the head.

    Args:
        backbone: A timm model.
        family: Its row.
        layouts: Of all stages.
        input_shape: Of one image: channels, height, width.
    """
    norms = [path for path, module in backbone.named_modules() if keeps_statistics(module)]
    stages = {path: number for number, layout in enumerate(layouts, start=1) for path in layout.modules}
    segments = {path: number for path in norms for root, number in stages.items() if is_within(path, root)}
    outside = [path for path in norms if path not in segments]
    in_stem = _run_by_stem(backbone, family, outside, input_shape) if outside else set()
    head = len(layouts) + 1
    return segments | {path: 0 if path in in_stem else head for path in outside}


def _run_by_stem(
    backbone: nn.Module, family: Family, norms: Collection[str], input_shape: tuple[int, ...]
) -> set[str]:
    """Return which of the norms the stem runs; some stems are functions, so it is tried, on shapes alone."""
    shapes = on_meta(backbone).eval()
    seen: set[str] = set()
    for path in norms:
        shapes.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.add(path))
    with torch.no_grad(), torch.device("meta"):
        run_steps(shapes, family.stem, torch.empty(1, *input_shape, device="meta"))
    return seen


def separate_statistics(
    backbone: nn.Module,
    skip_norms: nn.Module,
    letters: Letters,
    skips: Sequence[Skip],
    segments: Mapping[str, int],
) -> nn.Module:
    """Return the sets of all paths, starting as copies of what the norms remember.

    Args:
        backbone: A timm model.
        skip_norms: Second norms, at the backbone's paths.
        letters: Which letter each segment follows.
        skips: What every letter changes.
        segments: Which segment runs each norm.

    Returns:
        A module with one child a path, which holds the norms' buffers at the norms' paths.
    """
    sets = nn.Module()
    for norm, segment in segments.items():
        letter = letters.segments[segment]
        for path in letters.paths(segment):
            skip = skips[letter] if letter is not None and path[letter] == SKIPPED else None
            if skip and any(is_within(norm, block) for block in skip.blocks):
                continue
            is_doubled = skip is not None and norm in skip.norms
            if path != (SKIPPED if is_doubled else WHOLE) * len(path):
                owner = (skip_norms if is_doubled else backbone).get_submodule(norm)
                insert(sets, f"{path}.{norm}", _buffers_of(owner))
    return sets


def _buffers_of(norm: nn.Module) -> nn.Module:
    """Return a module that holds copies of a norm's buffers and nothing else."""
    holder = nn.Module()
    for name, buffer in norm._buffers.items():
        holder.register_buffer(name, None if buffer is None else buffer.detach().clone())
    return holder


def with_buffers(norm: nn.Module, holder: nn.Module) -> nn.Module:
    """Return a form of a norm that shares everything but its buffers, which are a holder's."""
    form = copy.copy(norm)
    form._buffers = holder._buffers
    return form
