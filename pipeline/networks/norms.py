"""Which layers normalise their input by its statistics, and therefore exist twice (skip-aware norms).

Layers that re-weight channels by their share (timm's `GlobalResponseNorm`) and frozen statistics stay shared.
Source: Kang and Lee 2024, arXiv:2312.16392, section 3.
"""

from collections.abc import Collection, Iterator

from timm import layers
from torch import nn

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    # timm's own; its other norms and norm+activation layers derive from these or from torch's.
    layers.RmsNorm,
    layers.RmsNormFp32,
    layers.RmsNorm2d,
    layers.RmsNorm2dFp32,
    layers.SimpleNorm,
    layers.SimpleNormFp32,
    layers.SimpleNorm2d,
    layers.SimpleNorm2dFp32,
    layers.FilterResponseNormAct2d,
    layers.FilterResponseNormTlu2d,
    layers.EvoNorm2dB0,
    layers.EvoNorm2dB1,
    layers.EvoNorm2dB2,
    layers.EvoNorm2dS0,
    layers.EvoNorm2dS1,
    layers.EvoNorm2dS2,
)


def norm_paths(module: nn.Module, *, shared: Collection[str] = (), prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every norm in a module.

    Args:
        module: Where to look; itself a norm, its path is `prefix`.
        shared: Names of submodules whose norms are left out.
        prefix: Put before every path.
    """
    for path, submodule in module.named_modules(prefix=prefix):
        if isinstance(submodule, NORMS) and not set(shared) & set(path.split(".")):
            yield path
