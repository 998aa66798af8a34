"""Weight-sharing copies: the same modules, wired differently.

`copy.copy` of a module shares its dictionaries of parameters and buffers. Replacing `_modules` on the path to
a submodule therefore gives a second form in which everything else *is* the original: `.to()`,
`load_state_dict`, gradients and optimiser steps reach both.
"""

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping

from torch import nn

Copies = list[tuple[nn.Module, nn.Module]]
"""Pairs of an original and its shallow copy."""


def rewire(
    module: nn.Module, replacements: Mapping[str, nn.Module | None], copies: Copies | None = None
) -> nn.Module:
    """Return a form of `module` with other submodules at the given paths and everything else shared.

    Args:
        module: The original; left as it is.
        replacements: New submodules by dotted path. None removes a child; children that are numbered are
            numbered anew then.
        copies: Gets a pair for every module that was copied.

    Returns:
        `module` itself where nothing is replaced, else a shallow copy.

    Raises:
        KeyError: If a path does not exist in `module`.
    """
    if not replacements:
        return module
    by_child: dict[str, dict[str, nn.Module | None]] = defaultdict(dict)
    for path, replacement in replacements.items():
        child, _, rest = path.partition(".")
        by_child[child][rest] = replacement
    form = copy.copy(module)
    form._modules = dict(module._modules)
    for name, inner in by_child.items():
        original = module._modules[name]
        if original is None:
            raise KeyError(name)
        form._modules[name] = inner[""] if "" in inner else rewire(original, inner, copies)
    removed = {name for name, inner in by_child.items() if inner.get("", module) is None}
    if removed:
        form._modules = _without(form._modules, removed)
    if copies is not None:
        copies.append((module, form))
    return form


def _without(
    children: Mapping[str, nn.Module | None], removed: Collection[str]
) -> dict[str, nn.Module | None]:
    """Return the children that stay; those of a list are numbered from 0 again."""
    kept = {name: child for name, child in children.items() if name not in removed}
    is_list = list(children) == [str(index) for index in range(len(children))]
    return {str(index): child for index, child in enumerate(kept.values())} if is_list else kept


def insert(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` below `root` at a dotted path, with empty modules for the steps between."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)


def is_within(path: str, root: str) -> bool:
    """Return whether a dotted path is `root` or lies below it."""
    return f"{path}.".startswith(f"{root}.")
