"""The adaptive depth network: a timm backbone, split stages and skip-aware norms.

Everything that runs is timm's. A stage holds its blocks once; the form that runs when the stage is skipped
shares all of them but the norms (see `rewire`). `state_dict` is `backbone.*`, exactly timm's keys, and
`skip_norms.*`.

Shapes: B images, K classes. Source of the method: Kang and Lee 2024, arXiv:2312.16392, section 3.
"""

import copy
import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import timm
import torch
from torch import Tensor, nn

from .cost import ProfileCost, SegmentMacs, count_segment_macs
from .families import Family, StageLayout, family_of, skip_aware_paths, stage_layouts
from .profiles import DepthProfile, resolve_split
from .rewire import insert, rewire

Split = Literal["paper"] | Sequence[int]


@dataclass(frozen=True)
class NetworkDescription:
    """What builds the same network again, as plain data that JSON can hold.

    Attributes:
        backbone: timm's model name.
        num_classes: Outputs of the head.
        split: `paper`, or mandatory blocks of every stage.
        image_size: Height and width of the images in pixels; None takes the backbone's own.
        small_images: 3x3 stem with stride 1 and no pooling (ResNet).
        kwargs: Further arguments of timm's constructor.
    """

    backbone: str
    num_classes: int
    split: Split = "paper"
    image_size: int | None = None
    small_images: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def build(self, *, pretrained: bool = False) -> "AdaptiveDepthNetwork":
        """Build the network; see `AdaptiveDepthNetwork.from_timm` for errors."""
        return AdaptiveDepthNetwork(
            create_backbone(self, pretrained=pretrained), split=self.split, description=self
        )


@dataclass(frozen=True)
class AdaptiveStage:
    """One stage: its mandatory blocks in two forms and its skippable blocks.

    Attributes:
        whole: Mandatory blocks with the norms used when the stage runs whole.
        skipped: The same blocks with the norms used when it is skipped.
        skippable: The blocks that a skip leaves out; none where the stage cannot be skipped.
    """

    whole: tuple[nn.Module, ...]
    skipped: tuple[nn.Module, ...]
    skippable: tuple[nn.Module, ...]

    @property
    def is_skippable(self) -> bool:
        """Whether a skip leaves anything out."""
        return bool(self.skippable)

    def run(self, hidden: Tensor, *, skip: bool) -> Tensor:
        """Run the stage whole or skipped; both give the same shape."""
        blocks = self.skipped if skip else self.whole + self.skippable
        return _run_blocks(blocks, hidden)

    def run_mandatory(self, hidden: Tensor) -> Tensor:
        """Run the mandatory sub-path with the norms of the whole stage."""
        return _run_blocks(self.whole, hidden)

    def run_skippable(self, hidden: Tensor) -> Tensor:
        """Run the skippable sub-path."""
        return _run_blocks(self.skippable, hidden)


def _run_blocks(blocks: Sequence[nn.Module], hidden: Tensor) -> Tensor:
    for block in blocks:
        hidden = block(hidden)
    return hidden


class AdaptiveDepthNetwork(nn.Module):
    """A timm backbone that runs at 2^N depths.

    Use `from_timm` to build one by name. The constructor converts a backbone that exists already; its
    super-net is that backbone, bit for bit.

    Args:
        backbone: A timm model of a supported family; kept, not copied.
        split: `paper`, or mandatory blocks of every stage.
        description: What the backbone was built from.

    Raises:
        ValueError: If the family is not supported, the split does not fit, or the image size does not.
    """

    def __init__(self, backbone: nn.Module, *, split: Split, description: NetworkDescription) -> None:
        super().__init__()
        self.name = description.backbone
        self.family: Family = family_of(backbone)
        self.layouts: tuple[StageLayout, ...] = stage_layouts(backbone, self.family)
        self.split = resolve_split(split, [len(layout.blocks) for layout in self.layouts], network=self.name)
        self.input_shape = _input_shape(backbone, description.image_size)
        self.description = NetworkDescription(
            **{**description.to_dict(), "split": self.split, "image_size": self.input_shape[-1]}
        )
        self.backbone = backbone
        self.skip_norms = self._double_norms()
        self.stages = self._wire_stages()

    @classmethod
    def from_timm(
        cls,
        name: str,
        *,
        num_classes: int = 1000,
        split: Split = "paper",
        pretrained: bool = False,
        image_size: int | None = None,
        small_images: bool = False,
        **timm_kwargs: Any,  # noqa: ANN401
    ) -> "AdaptiveDepthNetwork":
        """Build a timm model by name and make its depth adaptive.

        Args:
            name: timm's model name, such as `resnet50`.
            num_classes: Outputs of the head.
            split: `paper`, or one integer a stage: its number of mandatory blocks.
            pretrained: Start from timm's pretrained weights; skip-aware norms start as copies.
            image_size: Height and width of the images in pixels; None takes the backbone's own.
            small_images: Replace a ResNet's stem by a 3x3 convolution with stride 1 and no pooling.
            **timm_kwargs: Passed to timm's constructor as they are.

        Raises:
            ValueError: If the name is unknown, its family not supported, timm refuses an argument, or split,
                image size or stem do not fit the backbone.
        """
        description = NetworkDescription(name, num_classes, split, image_size, small_images, timm_kwargs)
        return description.build(pretrained=pretrained)

    @functools.cached_property
    def segment_macs(self) -> SegmentMacs:
        """Multiply-adds of every segment; raises ValueError if the image size does not fit the backbone."""
        return count_segment_macs(self)

    @property
    def image_size(self) -> int:
        """Height and width of the images that costs are counted for, in pixels."""
        return self.input_shape[-1]

    @property
    def num_skippable_stages(self) -> int:
        """N: how many letters a profile has."""
        return sum(stage.is_skippable for stage in self.stages)

    @property
    def profiles(self) -> tuple[DepthProfile, ...]:
        """All 2^N depth profiles, `full` first and `base` last."""
        return DepthProfile.enumerate(self.num_skippable_stages)

    @property
    def extremes(self) -> tuple[DepthProfile, DepthProfile]:
        """`full` and `base`, the two profiles that are trained."""
        return DepthProfile.full(self.num_skippable_stages), DepthProfile.base(self.num_skippable_stages)

    def parse_profile(self, profile: str | DepthProfile) -> DepthProfile:
        """Return the profile that a text means here; raises ValueError if it does not fit this network."""
        return DepthProfile.parse(profile, num_stages=self.num_skippable_stages, network=self.name)

    def forward(self, images: Tensor, profile: str | DepthProfile = "full") -> Tensor:
        """Run one depth.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            profile: `full`, `base`, letters or a profile.

        Returns:
            Logits, shape (B, K).
        """
        chosen = self.parse_profile(profile)
        hidden = self.forward_stem(images)
        for stage, skip in zip(self.stages, self._skips(chosen), strict=True):
            hidden = stage.run(hidden, skip=skip)
        return self.forward_head(hidden)

    def forward_profiles(
        self, images: Tensor, profiles: Sequence[DepthProfile]
    ) -> dict[DepthProfile, Tensor]:
        """Run several depths and share what they have in common.

        Profiles are walked as a tree of prefixes, depth first: all 16 of a four-stage network take 30 stage
        runs instead of 64, and at most one hidden state a stage is alive without gradients. The two extremes
        share the stem.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            profiles: Profiles of this network, without repetition.

        Returns:
            Logits by profile, shape (B, K) each, equal bit for bit to separate runs.
        """
        skips = {profile: self._skips(profile) for profile in profiles}
        logits: dict[DepthProfile, Tensor] = {}

        def walk(hidden: Tensor, depth: int, members: Sequence[DepthProfile]) -> None:
            if depth == len(self.stages):
                logits[members[0]] = self.forward_head(hidden)
                return
            for skip in (False, True):
                branch = [profile for profile in members if skips[profile][depth] is skip]
                if branch:
                    walk(self.stages[depth].run(hidden, skip=skip), depth + 1, branch)

        walk(self.forward_stem(images), 0, profiles)
        return {profile: logits[profile] for profile in profiles}

    def forward_stem(self, images: Tensor) -> Tensor:
        """Run what comes before the stages."""
        for name in self.family.stem:
            images = getattr(self.backbone, name)(images)
        return images

    def forward_head(self, hidden: Tensor) -> Tensor:
        """Run what comes after the stages; returns logits, shape (B, K)."""
        for name in self.family.tail:
            hidden = getattr(self.backbone, name)(hidden)
        logits: Tensor = self.backbone.forward_head(hidden)  # type: ignore[operator]
        return logits

    def subnetwork(self, profile: str | DepthProfile) -> nn.Module:
        """Return one depth as an ordinary timm model: skipped blocks gone, the right norms in place.

        Its weights are this network's own, not copies. It consults no flag when it runs, so it compiles,
        exports and serves from many threads like any timm model.
        """
        chosen = self.parse_profile(profile)
        kept: dict[str, list[nn.Module]] = {layout.container: [] for layout in self.layouts}
        for layout, stage, skip in zip(self.layouts, self.stages, self._skips(chosen), strict=True):
            kept[layout.container] += stage.skipped if skip else stage.whole + stage.skippable
        containers = {
            name: rewire_container(self.backbone.get_submodule(name), blocks) for name, blocks in kept.items()
        }
        return rewire(self.backbone, containers)

    def cost(self, profile: str | DepthProfile) -> ProfileCost:
        """Return the multiply-adds for one image and the parameters of one depth."""
        chosen = self.parse_profile(profile)
        segments = self.segment_macs
        macs = segments.stem + sum(segments.mandatory) + segments.head
        macs += sum(
            extra for extra, skip in zip(segments.skippable, self._skips(chosen), strict=True) if not skip
        )
        return ProfileCost(macs, sum(parameter.numel() for parameter in self.subnetwork(chosen).parameters()))

    def train(self, mode: bool = True) -> Self:
        """Set training mode, in the skipped forms as well."""
        super().train(mode)
        for stage in self.stages:
            for block in stage.skipped:
                block.train(mode)
        return self

    def no_weight_decay(self) -> set[str]:
        """Return the parameters, besides norms and biases, that timm's optimisers must not decay."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}

    def _skips(self, profile: DepthProfile) -> tuple[bool, ...]:
        """Return for every stage, the ones without a letter included, whether it is skipped."""
        letters = iter(range(self.num_skippable_stages))
        return tuple(stage.is_skippable and profile.skips(next(letters)) for stage in self.stages)

    def _double_norms(self) -> nn.Module:
        """Return a second set of the norms in mandatory sub-paths, at the same paths as in the backbone."""
        skip_norms = nn.Module()
        for layout, point in zip(self.layouts, self.split, strict=True):
            if point == len(layout.blocks):
                continue
            for key in layout.blocks[:point]:
                path = f"{layout.container}.{key}"
                block = self.backbone.get_submodule(path)
                for norm in skip_aware_paths(block, self.family.shared_norms):
                    insert(skip_norms, f"{path}.{norm}", copy.deepcopy(block.get_submodule(norm)))
        return skip_norms

    def _wire_stages(self) -> tuple[AdaptiveStage, ...]:
        stages = []
        for layout, point in zip(self.layouts, self.split, strict=True):
            paths = [f"{layout.container}.{key}" for key in layout.blocks]
            blocks = [self.backbone.get_submodule(path) for path in paths]
            is_skippable = point < len(blocks)
            skipped = [self._skipped_form(path) for path in paths[:point]] if is_skippable else blocks
            stages.append(AdaptiveStage(tuple(blocks[:point]), tuple(skipped), tuple(blocks[point:])))
        return tuple(stages)

    def _skipped_form(self, path: str) -> nn.Module:
        block = self.backbone.get_submodule(path)
        norms = skip_aware_paths(block, self.family.shared_norms)
        return rewire(block, {norm: self.skip_norms.get_submodule(f"{path}.{norm}") for norm in norms})


def rewire_container(container: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    """Return a form of an `nn.Sequential` with other blocks; hooks and settings of the original are kept."""
    form = copy.copy(container)
    form._modules = {str(index): block for index, block in enumerate(blocks)}
    return form


def create_backbone(description: NetworkDescription, *, pretrained: bool) -> nn.Module:
    """Build the timm model that a description names.

    Raises:
        ValueError: If timm does not know the name or refuses an argument, or the small-image stem does not
            apply.
    """
    name, kwargs = description.backbone, dict(description.kwargs)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists the names"
        raise ValueError(f"a backbone must be a timm model name, got {name!r}; {hint}")
    if description.image_size is not None and timm.get_pretrained_cfg(name).fixed_input_size:
        kwargs.setdefault("img_size", description.image_size)
    try:
        backbone: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=description.num_classes, **kwargs
        )
    except (TypeError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"timm cannot build {name} with {kwargs} ({error}); see the arguments of its class in timm"
        ) from error
    if description.small_images:
        use_small_image_stem(backbone, name)
    return backbone


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


def _input_shape(backbone: nn.Module, image_size: int | None) -> tuple[int, int, int]:
    """Return (channels, height, width) of one image."""
    published: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    _, height, width = published.get("input_size", (3, 224, 224))
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    patches = getattr(backbone, "patch_embed", None)
    if image_size is not None:
        height = width = image_size
    elif patches is not None and patches.img_size is not None:
        height, width = patches.img_size
    for pixels, patch in zip((height, width), getattr(patches, "patch_size", (1, 1)), strict=True):
        if pixels < 1 or pixels % patch:
            near = max(1, round(pixels / patch)) * patch
            raise ValueError(
                f"an image size must be a positive multiple of the patch size, got {pixels} pixels for "
                f"{type(backbone).__name__} with patches of {patch}; choose {near}, "
                "or another patch_size in the backbone's kwargs"
            )
    return first.in_channels, height, width


def memory_format(network: AdaptiveDepthNetwork) -> torch.memory_format:
    """Return the memory format in which a network's images and weights run fastest."""
    return torch.channels_last if network.family.is_convolutional else torch.contiguous_format
