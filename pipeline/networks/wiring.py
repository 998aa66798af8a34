"""The two forms of every part of a network: as it is, and as its letter T makes it.

Derived from the registered modules, so it is never stored: a copied or unpickled network wires itself anew,
and one whose modules were exchanged (as by a conversion to synchronised norms) notices that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .families import State
from .rewire import Copies, rewire
from .skips import Letters, Skip
from .stages import StageLayout

Replacements = dict[str, nn.Module | None]


@dataclass(frozen=True)
class AdaptiveStage:
    """One stage: what runs it whole and what runs it skipped.

    Attributes:
        letter: Number of the profile's letter that it follows, or None.
        is_skippable: Whether a skip leaves anything out.
        whole: Modules to run in order.
        skipped: The same without the skippable blocks and with the skip-aware norms.
    """

    letter: int | None
    is_skippable: bool
    whole: tuple[nn.Module, ...]
    skipped: tuple[nn.Module, ...]

    def run(
        self,
        run_module: Callable[[nn.Module, State], State],
        state: State,
        *,
        skip: bool,
        recompute: bool = False,
    ) -> State:
        """Run the stage; both forms give the same shape.

        Args:
            run_module: Runs one module on the state.
            state: See `families.State`.
            skip: Whether to run the skipped form.
            recompute: Keep no activations for the backward pass, compute them again.
        """
        for module in self.skipped if skip else self.whole:
            if recompute and torch.is_grad_enabled():
                state = checkpoint(run_module, module, state, use_reentrant=False)
            else:
                state = run_module(module, state)
        return state


class Wiring:
    """The forms of a backbone.

    Args:
        backbone: A timm model.
        skip_norms: Second norms, at the backbone's paths.
        layouts: Its stages.
        letters: Which letter each part follows.
        skips: What every letter changes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        skip_norms: nn.Module,
        layouts: Sequence[StageLayout],
        letters: Letters,
        skips: Sequence[Skip],
    ) -> None:
        self._copies: Copies = []
        modules = {path for layout in layouts for path in layout.modules}
        self._replacements = [self._replace(backbone, skip_norms, modules, skip) for skip in skips]
        skipped_stages = {skip.stage for skip in skips}
        self.stages = tuple(
            self._stage(backbone, layout, letter, is_skippable=stage in skipped_stages)
            for stage, (layout, letter) in enumerate(zip(layouts, letters.stages, strict=True))
        )
        self.whole = backbone
        self.skipped = rewire(backbone, self.replacements(range(len(skips))), self._copies)
        roots = [original for original, _ in self._copies] + list(skip_norms.modules())
        self._snapshots = [(root._modules, tuple(root._modules.values())) for root in roots]

    def replacements(self, letters: Iterator[int] | Sequence[int]) -> Replacements:
        """Return what the given letters together replace and remove, by path in the backbone."""
        return {path: module for letter in letters for path, module in self._replacements[letter].items()}

    def is_current(self) -> bool:
        """Return whether the modules that were wired are still the registered ones."""
        return all(tuple(children.values()) == before for children, before in self._snapshots)

    def follow_originals(self) -> None:
        """Give the copies the plain attributes of their originals, such as the training mode."""
        for original, form in self._copies:
            vars(form).update({name: value for name, value in vars(original).items() if name != "_modules"})

    def _replace(
        self, backbone: nn.Module, skip_norms: nn.Module, modules: set[str], skip: Skip
    ) -> Replacements:
        """Return what one letter replaces: whole modules of stages, and norms outside of them."""
        wanted: dict[str, Replacements] = {}
        result: Replacements = {}
        changes: Mapping[str, nn.Module | None] = {
            **{norm: skip_norms.get_submodule(norm) for norm in skip.norms},
            **dict.fromkeys(skip.blocks),
        }
        for path, change in changes.items():
            root = next((module for module in modules if f"{path}.".startswith(f"{module}.")), path)
            if root == path:
                result[path] = change
            else:
                wanted.setdefault(root, {})[path.removeprefix(f"{root}.")] = change
        for root, inner in wanted.items():
            result[root] = rewire(backbone.get_submodule(root), inner, self._copies)
        return result

    def _stage(
        self, backbone: nn.Module, layout: StageLayout, letter: int | None, *, is_skippable: bool
    ) -> AdaptiveStage:
        originals = {path: backbone.get_submodule(path) for path in layout.modules}
        changes = {} if letter is None else self._replacements[letter]
        forms = {path: changes.get(path, original) for path, original in originals.items()}
        kept = tuple(form for form in forms.values() if form is not None)
        return AdaptiveStage(letter, is_skippable, tuple(originals.values()), kept)
