"""Copies of a network that have shapes in place of weights: what they run costs nothing."""

import copy
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def on_meta(module: Module) -> Module:
    """Return a copy on the meta device, without gradients; no weight is copied on the way.

    Tensors that a module keeps as plain attributes, outside its parameters and buffers, move as well.
    """
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    for submodule in module.modules():
        for value in vars(submodule).values():
            if isinstance(value, Tensor):
                memo[id(value)] = value.detach().to("meta")
    return copy.deepcopy(module, memo)
