"""What timm's own entry point makes of pretrained weights before it loads them into a model.

An entry point chooses its key filter, resamples position embeddings and adapts the first convolution; none of
it can be asked for by name. So the entry point runs on a model without storage, and what it would load there
is kept instead of loaded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

from .backbone import timm_arguments

if TYPE_CHECKING:
    from .adaptive import NetworkDescription


@dataclass(frozen=True)
class LoadedByTimm:
    """What timm would load.

    Attributes:
        weights: Tensors by timm's names, in the shapes of the model where timm can adapt them.
        allows_more: Whether timm leaves out what the model has no place for.
    """

    weights: Mapping[str, Tensor]
    allows_more: bool


def load_as_timm(description: "NetworkDescription", weights: Mapping[str, Tensor] | None) -> LoadedByTimm:
    """Return what timm would load into a backbone.

    The head stays as it is in the source, whatever its number of classes.

    Args:
        description: Of a network that can be built.
        weights: What a checkpoint holds, at least one tensor, on any device; None fetches timm's own from its
            hub or cache.

    Raises:
        Exception: Whatever timm, its filters or the hub raise on weights that they cannot take or reach.
    """
    arguments = timm_arguments(description)
    overlay = {**arguments.pop("pretrained_cfg_overlay", {}), "num_classes": description.num_classes}
    if weights is not None:
        overlay["state_dict"] = weights
    with _intercepted() as loads, torch.device("meta"):
        timm.create_model(
            description.backbone,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=description.num_classes,
            **arguments,
        )
    return loads[-1]


@contextmanager
def _intercepted() -> Iterator[list[LoadedByTimm]]:
    """Keep what timm would load while this lasts, and load nothing."""
    loads: list[LoadedByTimm] = []
    load_pretrained = _builder.load_pretrained

    def keep(state_dict: Mapping[str, Any], strict: bool = True) -> Any:  # noqa: ANN401
        tensors = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
        loads.append(LoadedByTimm(tensors, allows_more=not strict))
        return nn.Module().load_state_dict({})

    def intercept(model: nn.Module, **settings: Any) -> None:  # noqa: ANN401
        model.load_state_dict = keep  # type: ignore[method-assign, assignment]
        # A filter makes tensors of its own, which need storage although the model has none.
        with torch.device("cpu"):
            load_pretrained(model, **settings)

    _builder.load_pretrained = intercept
    try:
        yield loads
    finally:
        _builder.load_pretrained = load_pretrained
