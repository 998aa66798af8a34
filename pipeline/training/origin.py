"""Where a number that is not finite comes from: the first module whose output holds one.

Found by running a step's images once more through both extreme profiles, with a look at every module's
output. The weights are those of that step, before its update; what a forward pass draws by chance (dropout,
stochastic depth) is drawn anew, and the loss itself is not computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from pipeline.networks.single_depth import Network, SingleDepthNetwork, trained_extremes

IMAGES = "the images themselves"
NOWHERE = "every module's output is finite for this batch"


@dataclass(frozen=True)
class Trace:
    """The outputs of a pass in the order in which they were computed: names, and whether each is finite.

    Two workers with the same network have the same names, so the number of an output says the same on both.
    """

    names: Sequence[str]
    is_finite: Sequence[bool]

    @property
    def first(self) -> int | None:
        """Number of the first output that is not finite; None if all are."""
        return next((number for number, is_finite in enumerate(self.is_finite) if not is_finite), None)

    def describe(self, number: int | None) -> str:
        """Return in words what an output's number, or None, says about where it started."""
        return NOWHERE if number is None else f"first not finite: {self.names[number]}"


def trace(network: Network, images: Tensor) -> Trace:
    """Return which outputs are finite when the network runs as it trains: whole and skipped, or alone.

    It waits for the device, and changes running statistics: for a network that will not be trained on.

    Args:
        network: In training mode.
        images: Shape (B, channels, height, width), on its device.
    """
    names, is_finite = [IMAGES], [bool(images.isfinite().all())]
    for name, parameter in network.named_parameters():
        names.append(f"the weights {name}, before this step")
        is_finite.append(bool(parameter.isfinite().all()))
    paths = module_paths(network)
    for profile in trained_extremes(network):

        def look(module: nn.Module, _inputs: Any, output: Any, profile: object = profile) -> None:  # noqa: ANN401
            path = paths.get(id(module._parameters))
            if path:
                names.append(f"the output of {path}, profile {profile}")
                is_finite.append(all(bool(part.isfinite().all()) for part in tensors_of(output)))

        with torch.no_grad(), looking(look):
            network.forward_profiles(images, [profile])
    return Trace(names, is_finite)


def module_paths(network: Network) -> dict[int, str]:
    """Return every module's path, by the identity of its dictionary of parameters.

    The skipped form of a module is a shallow copy, which is registered nowhere but shares that dictionary.
    """
    roots = {"": network.backbone}
    if not isinstance(network, SingleDepthNetwork):
        roots["skip_norms."] = network.skip_norms
    return {
        id(module._parameters): f"{prefix}{path}"
        for prefix, root in roots.items()
        for path, module in root.named_modules()
        if path
    }


def tensors_of(output: Any) -> Iterator[Tensor]:  # noqa: ANN401
    """Return the floating-point tensors of what a module returned."""
    parts = output if isinstance(output, tuple | list) else (output,)
    return (part for part in parts if isinstance(part, Tensor) and part.is_floating_point())


@contextmanager
def looking(look: Callable[..., None]) -> Iterator[None]:
    """Call `look` with every module, its inputs and its output within the block; nothing runs compiled."""
    handle = register_module_forward_hook(look)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        handle.remove()
