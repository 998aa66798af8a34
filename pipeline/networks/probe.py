"""Finds out which blocks can be left out: those that keep the shape and are residual.

Nobody writes this down for a block. The backbone runs once on the meta device, and every block's piece of the
autograd graph is read: a block is residual if its input reaches its output through additions, pointwise
activations and changes of view alone, so that an identity path stays when everything else is gone.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from .families import hidden_of
from .meta import on_meta

TRANSPARENT = frozenset(
    {
        *("Relu", "LeakyRelu", "Silu", "Gelu", "Elu", "Mish", "Hardswish", "Hardtanh", "Clamp", "ClampMin"),
        *("HardswishFunction", "HardMishFunction", "Prelu", "Softplus"),
        *(
            "Clone",
            "Alias",
            "ToCopy",
            "View",
            "UnsafeView",
            "ReshapeAlias",
            "Permute",
            "Transpose",
            "Unsqueeze",
        ),
        *("Squeeze", "Expand", "T", "Dropout", "NativeDropout"),
    }
)
"""Pointwise activations, as behind the addition of a ResNet's block, and changes of view."""


@dataclass(frozen=True)
class BlockFacts:
    """What the probe saw of one block.

    Attributes:
        shape_in: Of the hidden state before the block, for one image.
        shape_out: The same behind it.
        is_residual: Whether an identity path leads around the block's computation.
    """

    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    is_residual: bool

    @property
    def obstacle(self) -> str | None:
        """Why the block cannot be left out, or None if it can."""
        if self.shape_in != self.shape_out:
            return f"changes the shape from {_text(self.shape_in)} to {_text(self.shape_out)}"
        if not self.is_residual:
            return "has no identity path around it"
        return None


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def probe_blocks(
    backbone: nn.Module, paths: Iterable[str], input_shape: tuple[int, ...]
) -> dict[str, BlockFacts]:
    """Run a backbone once without computing anything and return what was seen of its blocks.

    Args:
        backbone: A timm model, on any device; left as it is.
        paths: Of the blocks.
        input_shape: Channels, height and width of one image.

    Returns:
        Facts by path; a block that did not run is not in it.

    Raises:
        ValueError: If the backbone cannot take images of that size.
    """
    shapes = on_meta(backbone).eval().requires_grad_(True)
    facts: dict[str, BlockFacts] = {}
    for path in paths:
        _watch(shapes.get_submodule(path), path, facts)
    try:
        with torch.device("meta"), torch.enable_grad():
            shapes(torch.empty(1, *input_shape, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot take images of {input_shape[1]} x {input_shape[2]} pixels ({error})"
        ) from error
    return facts


def _watch(block: nn.Module, path: str, facts: dict[str, BlockFacts]) -> None:
    source: list[Any] = []

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # A fresh leaf cuts the graph off in front of the block; its clone may be changed in place.
        hidden = hidden_of(args[0]).detach().requires_grad_().clone()
        source[:] = [hidden.grad_fn, tuple(hidden.shape[1:])]
        state = (hidden, *args[0][1:]) if isinstance(args[0], tuple) else hidden
        return state, *args[1:]

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        node, shape_in = source
        hidden = hidden_of(output)
        facts[path] = BlockFacts(shape_in, tuple(hidden.shape[1:]), has_identity_path(hidden, node))

    block.register_forward_pre_hook(before)
    block.register_forward_hook(after)


def has_identity_path(output: Tensor, source: Node) -> bool:
    """Return whether a tensor holds another one unchanged, up to additions, activations and views.

    Args:
        output: The end of the graph.
        source: The graph's node that made the other tensor.
    """
    return _reaches(output.grad_fn, source, lambda node: _unchanged_operands(node, source))


def _unchanged_operands(node: Node, source: Node) -> list[Node | None]:
    """Return the operands that pass through a node as they are."""
    operation = re.sub(r"Backward\d*$", "", node.name())
    operands = _operands(node)
    if operation == "Add" or operation in TRANSPARENT:
        return operands
    if operation == "Sub":
        return operands[:1]
    if operation in (
        "Slice",
        "AsStrided",
    ):  # a view that was added to in place: `CopySlices` has its base first
        return [
            o for node in operands if node and node.name().endswith("CopySlices") for o in _operands(node)[1:]
        ]
    if operation == "Mul":  # by a learned scale; a gate that depends on the source changes it
        factors = [operand for operand in operands if _reaches(operand, source, _operands)]
        return factors if len(factors) == 1 else []
    return []


def _reaches(start: Node | None, source: Node, operands_of: Callable[[Node], Iterable[Node | None]]) -> bool:
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop()
        if node is source:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(operands_of(node))
    return False


def _operands(node: Node) -> list[Node | None]:
    return [operand for operand, _ in node.next_functions]
