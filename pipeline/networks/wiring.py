"""The forms of every segment of a network: as it is, as its letter T makes it, with the statistics of a path.

Derived from the registered modules, so it is never stored: a copied or unpickled network wires itself again,
and one whose modules were exchanged (as by a conversion to synchronised norms) notices that.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

from timm.layers import DropPath
from torch import nn

from .profiles import SKIPPED
from .rewire import Copies, is_within, rewire
from .skips import Letters, Skip
from .stages import StageLayout
from .statistics import with_buffers

Replacements = dict[str, nn.Module | None]

Form = tuple[nn.Module, ...]
"""What runs a segment: the modules of a stage in order, or a backbone whose stem or head is run."""

_OWN = ("_modules", "_buffers")
"""What a copy may have instead of its original's."""


class Wiring:
    """The forms of a backbone.

    Args:
        backbone: A timm model.
        skip_norms: Second norms, at the backbone's paths.
        path_statistics: Buffers of norms by path, see `statistics`; may be empty.
        layouts: Its stages.
        letters: Which letter each segment follows.
        skips: What every letter changes.
        segments: Which segment runs each norm that has buffers in `path_statistics`.
        students_drop_paths: Whether stochastic depth acts behind the first skipped stage of a path as well.
    """

    def __init__(
        self,
        backbone: nn.Module,
        skip_norms: nn.Module,
        path_statistics: nn.Module,
        *,
        layouts: Sequence[StageLayout],
        letters: Letters,
        skips: Sequence[Skip],
        segments: Mapping[str, int],
        students_drop_paths: bool,
    ) -> None:
        self._backbone = backbone
        self._skip_norms = skip_norms
        self._path_statistics = path_statistics
        self._letters = letters
        self._skips = skips
        self._modules_of_stages = [layout.modules for layout in layouts]
        self._copies: Copies = []
        self._replacements: dict[tuple[int, str], Replacements] = {}
        self._forms: dict[tuple[int, str], Form] = {}
        self._holders = _holders(path_statistics)
        self._segments = segments
        self._students_drop_paths = students_drop_paths
        for segment in range(len(letters.segments)):
            self._wire_all(segment, letters.paths(segment))
        roots = [original for original, _ in self._copies] + list(skip_norms.modules())
        self._snapshots = [(root._modules, tuple(root._modules.values())) for root in roots]

    def form(self, segment: int, path: str) -> Form:
        """Return what runs a segment at the end of a path."""
        return self._forms[segment, path]

    def replacements(self, paths: Sequence[str]) -> Replacements:
        """Return what a profile replaces and removes in the backbone, from the path to each segment."""
        return {
            name: module
            for segment, path in enumerate(paths)
            for name, module in self._replacements[segment, path].items()
        }

    def is_current(self, backbone: nn.Module, skip_norms: nn.Module, path_statistics: nn.Module) -> bool:
        """Return whether these modules are the ones that were wired, and their submodules as well."""
        wired = (self._backbone, self._skip_norms, self._path_statistics)
        return wired == (backbone, skip_norms, path_statistics) and all(
            tuple(children.values()) == before for children, before in self._snapshots
        )

    def follow_originals(self) -> None:
        """Give the copies the plain attributes of their originals, such as the training mode."""
        for original, form in self._copies:
            plain = {name: value for name, value in vars(original).items() if name not in _OWN}
            vars(form).update(plain)

    def _wire_all(self, segment: int, paths: Sequence[str]) -> None:
        """Make the forms of a segment: a path without buffers of its own has the one of its letter."""
        shared: dict[bool, tuple[Replacements, Form]] = {}
        of_students: dict[Form, Form] = {}
        for path in paths:
            is_skipped = self._letters.skips(segment, path)
            holders = self._holders[path].items()
            own = {norm: holder for norm, holder in holders if self._segments[norm] == segment}
            if own:
                wired = self._wire(segment, own, is_skipped=is_skipped)
            elif is_skipped in shared:
                wired = shared[is_skipped]
            else:
                wired = shared[is_skipped] = self._wire(segment, {}, is_skipped=is_skipped)
            self._replacements[segment, path], form = wired
            if SKIPPED in path and not self._students_drop_paths:
                if form not in of_students:
                    of_students[form] = self._without_drop_path(segment, form)
                form = of_students[form]
            self._forms[segment, path] = form

    def _wire(
        self, segment: int, holders: Mapping[str, nn.Module], *, is_skipped: bool
    ) -> tuple[Replacements, Form]:
        """Return what a form of a segment replaces, and the form.

        Args:
            segment: Number of the segment.
            holders: Buffers of its norms, by path in the backbone, where they are not the norm's own.
            is_skipped: Whether it is the skipped form.
        """
        changes = self._skipped_changes(segment) if is_skipped else {}
        for path, holder in holders.items():
            norm = changes.get(path) or self._backbone.get_submodule(path)
            form = with_buffers(norm, holder)
            changes[path] = form
            self._copies.append((norm, form))
        if not self._is_stage(segment):
            return changes, (rewire(self._backbone, changes, self._copies),)
        stage = self._modules_of_stages[segment - 1]
        replacements = self._replace_modules(stage, changes)
        forms = [replacements.get(path, self._backbone.get_submodule(path)) for path in stage]
        return replacements, tuple(form for form in forms if form is not None)

    def _without_drop_path(self, segment: int, form: Form) -> Form:
        """Return a form that drops no residual branch: the same one where it has none to drop."""
        others = [] if self._is_stage(segment) else list(itertools.chain(*self._modules_of_stages))
        modules = tuple(rewire(one, _identities(one, outside=others), self._copies) for one in form)
        return form if modules == form else modules

    def _is_stage(self, segment: int) -> bool:
        return 0 < segment <= len(self._modules_of_stages)

    def _skipped_changes(self, segment: int) -> Replacements:
        """Return the norms that a segment's letter T exchanges in it, and the blocks that it removes."""
        letter = self._letters.segments[segment]
        if letter is None:
            return {}
        skip = self._skips[letter]
        changes: Replacements = {
            **{norm: self._skip_norms.get_submodule(norm) for norm in skip.norms},
            **dict.fromkeys(skip.blocks),
        }
        is_stage = self._is_stage(segment)
        stages = self._modules_of_stages[segment - 1 : segment] if is_stage else self._modules_of_stages
        return {
            path: change
            for path, change in changes.items()
            if any(is_within(path, module) for modules in stages for module in modules) is is_stage
        }

    def _replace_modules(self, modules: Sequence[str], changes: Replacements) -> Replacements:
        """Return changes inside of modules as replacements of these modules."""
        inner: dict[str, Replacements] = {module: {} for module in modules}
        for path, change in changes.items():
            module = next(module for module in modules if is_within(path, module))
            inner[module][path.removeprefix(module).removeprefix(".")] = change
        return {
            module: wanted[""]
            if "" in wanted
            else rewire(self._backbone.get_submodule(module), wanted, self._copies)
            for module, wanted in inner.items()
            if wanted
        }


def drops_paths(module: nn.Module) -> bool:
    """Return whether a module is timm's layer of stochastic depth, with a probability above 0."""
    return isinstance(module, DropPath) and module.drop_prob > 0


def _identities(module: nn.Module, *, outside: Sequence[str]) -> Replacements:
    """Return what replaces the layers of stochastic depth that act, but for those in modules left alone."""
    return {
        path: nn.Identity()
        for path, layer in module.named_modules(remove_duplicate=False)
        if drops_paths(layer) and not any(is_within(path, other) for other in outside)
    }


def _holders(path_statistics: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """Return the modules that hold buffers of norms: by path through the stages, then by norm."""
    holders: dict[str, dict[str, nn.Module]] = defaultdict(dict)
    for name, module in path_statistics.named_modules():
        if module._buffers:
            path, _, norm = name.partition(".")
            holders[path][norm] = module
    return holders
