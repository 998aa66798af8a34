"""Builds the timm model that a network description names."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import timm
from timm.layers import PatchEmbed
from torch import nn

if TYPE_CHECKING:
    from .adaptive import NetworkDescription


def create_backbone(description: "NetworkDescription") -> nn.Module:
    """Build the timm model that a description names, with new weights.

    Raises:
        ValueError: If timm does not know the name or refuses an argument, or the small-image stem does not
            apply.
    """
    name = description.backbone
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`skipline backbones` lists the names"
        raise ValueError(f"a backbone must be a timm model name, got {name!r}; {hint}")
    kwargs = timm_arguments(description)
    try:
        backbone: nn.Module = timm.create_model(name, num_classes=description.num_classes, **kwargs)
    except Exception as error:  # classes raise whatever they stumble over
        raise ValueError(
            f"timm cannot build {name} with {kwargs} ({error}); see the arguments of its class in timm"
        ) from error
    if description.small_images:
        use_small_image_stem(backbone, name)
    return backbone


def timm_arguments(description: "NetworkDescription") -> dict[str, Any]:
    """Return what timm's constructor of a known model is called with, beside the number of classes."""
    kwargs = dict(description.kwargs)
    if description.image_size is not None and timm.get_pretrained_cfg(description.backbone).fixed_input_size:
        kwargs.setdefault("img_size", description.image_size)
    return kwargs


def use_small_image_stem(backbone: nn.Module, name: str) -> None:
    """Replace a ResNet's stem by a 3x3 convolution with stride 1 and no pooling, as usual for 32 pixels.

    Raises:
        ValueError: If the backbone is not a ResNet with a single stem convolution.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """
    stem = getattr(backbone, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(backbone, "maxpool"):
        raise ValueError(
            f"small_images needs a ResNet with a single stem convolution, got {name} "
            f"({type(backbone).__name__}); leave it out, or use a backbone such as resnet18"
        )
    conv = nn.Conv2d(stem.in_channels, stem.out_channels, 3, stride=1, padding=1, bias=stem.bias is not None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    backbone.conv1 = conv.to(stem.weight.device, stem.weight.dtype)
    backbone.maxpool = nn.Identity()


def classifiers(backbone: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers of a timm model that predict the classes; a distilled transformer has two."""
    found = backbone.get_classifier()  # type: ignore[operator]
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def input_shape(backbone: nn.Module, description: "NetworkDescription") -> tuple[int, int, int]:
    """Return (channels, height, width) of one image.

    Raises:
        ValueError: If the patches of a transformer do not divide the image size, and it is not the size that
            timm's weights were trained with.
    """
    published: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    _, *published_size = published.get("input_size", (3, 224, 224))
    height, width = published_size
    patches = getattr(backbone, "patch_embed", None)
    if description.image_size is not None:
        height = width = description.image_size
    elif getattr(patches, "img_size", None) is not None:
        height, width = patches.img_size  # type: ignore[union-attr]
    patch_size = patches.patch_size if isinstance(patches, PatchEmbed) else (1, 1)
    for pixels, patch in zip((height, width), patch_size, strict=True):
        if pixels < 1 or (pixels % patch and pixels not in published_size):
            near = max(1, round(pixels / patch)) * patch
            raise ValueError(
                f"an image size must be a positive multiple of the patch size, got {pixels} pixels for "
                f"{type(backbone).__name__} with patches of {patch}; choose {near}, "
                "or another patch_size in the backbone's kwargs"
            )
    return input_channels(description.kwargs), height, width


def input_channels(kwargs: Mapping[str, Any]) -> int:
    """Return the channels of one image for a timm model that is built with these arguments."""
    channels: int = kwargs.get("in_chans", 3)  # what every model that timm publishes has
    return channels
