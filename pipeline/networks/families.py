"""Where each timm family keeps its stem, stages and tail: data, no model code.

A row names attributes of the timm class, in the order in which its `forward_features` runs them; what follows
is the class's own `forward_head`. To support a family is to add a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from .profiles import virtual_stages


@dataclass(frozen=True)
class Family:
    """How a timm class is laid out.

    Attributes:
        stem: Attributes that run before the stages; modules or methods.
        stages: Attributes that hold the blocks, one `nn.Sequential` a stage.
        tail: Attributes that run between the stages and `forward_head`.
        is_isotropic: All blocks are alike and in one attribute; they are grouped in virtual stages.
        is_convolutional: Runs fastest with channels-last memory.
        shared_norms: Submodules of a block whose norms are not doubled: shortcuts see the same input
            statistics.
    """

    stem: tuple[str, ...]
    stages: tuple[str, ...]
    tail: tuple[str, ...] = ()
    is_isotropic: bool = False
    is_convolutional: bool = True
    shared_norms: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "ResNet": Family(
        stem=("conv1", "bn1", "act1", "maxpool"),
        stages=("layer1", "layer2", "layer3", "layer4"),
        shared_norms=("downsample",),
    ),
    "VisionTransformer": Family(
        stem=("patch_embed", "_pos_embed", "patch_drop", "norm_pre"),
        stages=("blocks",),
        tail=("norm",),
        is_isotropic=True,
        is_convolutional=False,
    ),
}


@dataclass(frozen=True)
class StageLayout:
    """Where one stage's blocks are: `container` is an attribute of the model, `blocks` are keys in it."""

    container: str
    blocks: tuple[str, ...]


def family_of(backbone: nn.Module) -> Family:
    """Return the row for a timm model.

    Raises:
        ValueError: If its class is not in the table.
    """
    kind = type(backbone).__name__
    if kind not in FAMILIES:
        raise ValueError(
            f"a backbone must be of a supported timm class ({', '.join(FAMILIES)}), got {kind}; "
            "choose a model of one of these, such as resnet50 or vit_base_patch16_224"
        )
    return FAMILIES[kind]


def stage_layouts(backbone: nn.Module, family: Family) -> tuple[StageLayout, ...]:
    """Return the stages of a timm model, virtual ones where its class is isotropic."""
    if not family.is_isotropic:
        return tuple(StageLayout(name, _keys(backbone.get_submodule(name))) for name in family.stages)
    (container,) = family.stages
    keys = iter(_keys(backbone.get_submodule(container)))
    sizes = virtual_stages(len(backbone.get_submodule(container)._modules))
    return tuple(StageLayout(container, tuple(next(keys) for _ in range(size))) for size in sizes)


def _keys(container: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in container.named_children())


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises its input by statistics; timm's own layers subclass these."""
    return isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


def skip_aware_paths(block: nn.Module, shared: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the norms in a mandatory block that exist twice."""
    shared = set(shared)
    return tuple(
        path
        for path, module in block.named_modules()
        if is_norm(module) and not shared & set(path.split("."))
    )
