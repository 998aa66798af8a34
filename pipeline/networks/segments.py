"""How a module of a segment runs: as it is, compiled, or twice to save memory.

Segments are the stem, the stages and the head. They are the unit of compilation because they are what the
depths of a network have in common: whoever learns in a step, the same few small graphs run.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, TracebackType
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .families import Family, State, run_steps

Run = Callable[[Family, nn.Module, State], State]
"""Runs a module of a segment on what came before."""


def run_stem(family: Family, backbone: nn.Module, images: State) -> State:
    """Run what comes before the stages."""
    return run_steps(backbone, family.stem, images)


def run_stage(family: Family, module: nn.Module, state: State) -> State:
    """Run a stage, or a block of one."""
    return family.run(module, state)


def run_head(family: Family, backbone: nn.Module, state: State) -> State:
    """Run what comes after the stages, to the logits."""
    return backbone.forward_head(run_steps(backbone, family.tail, state))  # type: ignore[operator]


def with_own_code(run: Run) -> Run:
    """Return a function that does the same and whose compiled graphs are its own.

    A compiler keeps its graphs at the code of a function and gives up after a few for the same code; modules
    of unlike structure must not share that place.

    Source: torch.compile, "compile caches are per code object, not frame" (torch 2.14).
    """
    function = cast(FunctionType, run)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def run_recomputed(run: Run, family: Family, module: nn.Module, state: State) -> State:
    """Run a module and keep no activations in it: the backward pass runs it again, with the same results.

    The second run leaves buffers alone. Running statistics would otherwise see every batch twice.
    """
    return checkpoint(
        run,
        family,
        module,
        state,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), BuffersKept(module)),
    )


class BuffersKept(AbstractContextManager[None]):
    """While it lasts, a module changes copies of its buffers.

    Copies change places with the originals, so that no tensor is written that a gradient may need.

    Args:
        module: Whose buffers, those of its submodules included.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._originals: list[tuple[dict[str, Tensor | None], dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        """Put copies in the buffers' places."""
        self._originals = [(each._buffers, dict(each._buffers)) for each in self._module.modules()]
        for buffers, originals in self._originals:
            buffers.update(
                {name: None if buffer is None else buffer.clone() for name, buffer in originals.items()}
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the buffers back."""
        for buffers, originals in self._originals:
            buffers.update(originals)
