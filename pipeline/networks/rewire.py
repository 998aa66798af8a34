"""Weight-sharing copies: the same modules, wired differently.

`copy.copy` of a module shares its dictionaries of parameters and buffers. Replacing `_modules` on the path to
a submodule therefore gives a second form in which everything else *is* the original: `.to()`,
`load_state_dict`, gradients and optimiser steps reach both.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping

from torch import nn


def rewire(module: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Return a form of `module` with other submodules at the given paths and everything else shared.

    Args:
        module: The original; left as it is.
        replacements: New submodules by dotted path; `""` replaces the module itself.

    Returns:
        `module` itself where nothing is replaced, else a shallow copy.

    Raises:
        KeyError: If a path does not exist in `module`.
    """
    if "" in replacements:
        return replacements[""]
    if not replacements:
        return module
    by_child: dict[str, dict[str, nn.Module]] = defaultdict(dict)
    for path, replacement in replacements.items():
        child, _, rest = path.partition(".")
        by_child[child][rest] = replacement
    form = copy.copy(module)
    form._modules = dict(module._modules)
    for name, inner in by_child.items():
        original = module._modules[name]
        if original is None:
            raise KeyError(name)
        form._modules[name] = rewire(original, inner)
    return form


def insert(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` below `root` at a dotted path, with empty modules for the steps between."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
