"""The adaptive depth network: a timm backbone, split stages and skip-aware norms.

Everything that runs is timm's. A stage holds its blocks once; the form that runs when the stage is skipped
shares all of them but the norms (see `rewire`). `state_dict` is `backbone.*`, exactly timm's keys,
`skip_norms.*` and, where a network has them, `path_statistics.*` (see `statistics`).

Shapes: B images, K classes. Source of the method: Kang and Lee 2024, arXiv:2312.16392, section 3.
"""

import copy
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from .backbone import create_backbone, input_shape
from .cost import ProfileCost, SegmentMacs, count_segment_macs
from .families import Family, State, hidden_of
from .pretrained import initial_weights, start_from
from .profiles import SKIPPED, DepthProfile, resolve_split
from .rewire import insert, rewire
from .segments import Run, run_head, run_recomputed, run_stage, run_stem, with_own_code
from .skips import Letters, Skip, assign_letters, plan_skips
from .stages import StageLayout, find_stages, require_family
from .statistics import keeps_statistics, locate_statistics, separate_statistics
from .wiring import Form, Wiring, drops_paths

if TYPE_CHECKING:
    from .single_depth import Network

Split = Literal["paper"] | Sequence[int]

GroupMatcher = dict[str, Any] | Callable[[str], float]
"""timm's grouping of parameters: patterns of their names by group, or a group's number from a name."""


@dataclass(frozen=True)
class NetworkDescription:
    """What builds the same network again, as plain data that JSON can hold.

    Attributes:
        backbone: timm's model name.
        num_classes: Outputs of the head.
        split: `paper`, or mandatory blocks of every stage.
        image_size: Height and width of the images in pixels; None takes the backbone's own.
        small_images: 3x3 stem with stride 1 and no pooling (ResNet).
        num_stages: Virtual stages of a backbone whose blocks are all alike; None takes the default.
        skip_aware_norms: False leaves all norms shared (the paper's ablation).
        path_statistics: Norms keep running statistics for every path apart; see `statistics`.
        kwargs: Further arguments of timm's constructor.
    """

    backbone: str
    num_classes: int
    split: Split = "paper"
    _: KW_ONLY
    image_size: int | None = None
    small_images: bool = False
    num_stages: int | None = None
    skip_aware_norms: bool = True
    path_statistics: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def build(self) -> "AdaptiveDepthNetwork":
        """Build the network with new weights; see `AdaptiveDepthNetwork.from_timm` for errors."""
        return AdaptiveDepthNetwork(create_backbone(self), split=self.split, description=self)


@dataclass(frozen=True)
class Trace:
    """What one profile made of some images: its logits, shape (B, K), and the state behind every stage."""

    logits: Tensor
    stages: tuple[State, ...]


class AdaptiveDepthNetwork(nn.Module):
    """A timm backbone that runs at 2^N depths.

    Use `from_timm` to build one by name. The constructor converts a backbone that exists already; its
    super-net is that backbone, bit for bit.

    Args:
        backbone: A timm model of a supported family; kept, not copied.
        split: `paper`, or mandatory blocks of every stage.
        description: What the backbone was built from.

    Raises:
        UnsupportedBackboneError: If none of its blocks can be left out.
        ValueError: If the split, the number of stages or the image size does not fit.
    """

    def __init__(self, backbone: nn.Module, *, split: Split, description: NetworkDescription) -> None:
        super().__init__()
        self.name = description.backbone
        self.family: Family = require_family(backbone, self.name)
        self.input_shape = input_shape(backbone, description)
        self.layouts: tuple[StageLayout, ...] = find_stages(
            backbone, name=self.name, input_shape=self.input_shape, num_stages=description.num_stages
        )
        self.split = resolve_split(split, [layout.size for layout in self.layouts], network=self.name)
        self.description = replace(description, split=self.split, image_size=self.input_shape[-1])
        self.recomputes_activations = False
        self.students_drop_paths = True
        self._letters: Letters = assign_letters(
            self.layouts, self.split, follows_neighbours=self.family.doubles_boundaries
        )
        self._skips: tuple[Skip, ...] = plan_skips(
            backbone,
            self.family,
            self.layouts,
            self.split,
            self._letters,
            has_skip_norms=description.skip_aware_norms,
        )
        self.backbone = backbone
        self.skip_norms = self._double_norms()
        self.path_statistics = nn.Module()
        self._statistics_segments: dict[str, int] = {}
        self._compiler: Callable[[Run], Run] | None = None
        self._compiled: dict[tuple[int, int | None, int], Run] = {}
        self.reset_path_statistics()

    @classmethod
    def from_timm(
        cls,
        name: str,
        *,
        num_classes: int = 1000,
        split: Split = "paper",
        pretrained: bool | str | Path = False,
        image_size: int | None = None,
        small_images: bool = False,
        num_stages: int | None = None,
        skip_aware_norms: bool = True,
        **timm_kwargs: Any,  # noqa: ANN401
    ) -> "AdaptiveDepthNetwork":
        """Build a timm model by name and make its depth adaptive.

        Args:
            name: timm's model name, such as `resnet50`.
            num_classes: Outputs of the head.
            split: `paper`, or one integer a stage: its number of mandatory blocks.
            pretrained: True starts from timm's weights, a path from that checkpoint (safetensors or torch;
                see `initial_weights`); skip-aware norms start as copies.
            image_size: Height and width of the images in pixels; None takes the backbone's own.
            small_images: Replace a ResNet's stem by a 3x3 convolution with stride 1 and no pooling.
            num_stages: Virtual stages of a backbone whose blocks are all alike, such as a ViT; None groups
                them in four.
            skip_aware_norms: False leaves all norms shared, which costs accuracy (the paper's ablation).
            **timm_kwargs: Passed to timm's constructor as they are.

        Raises:
            UnsupportedBackboneError: If none of its blocks can be left out.
            PretrainedError: If pretrained weights cannot be had or do not fit.
            ValueError: If the name is unknown, timm refuses an argument, or split, number of stages, image
                size or stem do not fit the backbone.
        """
        description = NetworkDescription(
            name,
            num_classes,
            split,
            image_size=image_size,
            small_images=small_images,
            num_stages=num_stages,
            skip_aware_norms=skip_aware_norms,
            kwargs=timm_kwargs,
        )
        network = description.build()
        if pretrained is not False:
            start_from(network, initial_weights(description, pretrained).weights)
        return network

    @functools.cached_property
    def segment_macs(self) -> SegmentMacs:
        """Multiply-adds of every segment at the network's image size, counted once."""
        return count_segment_macs(self)

    @property
    def image_size(self) -> int:
        """Height and width of the images that costs are counted for, in pixels."""
        return self.input_shape[-1]

    @property
    def num_skippable_stages(self) -> int:
        """N: how many letters a profile has."""
        return len(self._skips)

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
        state = images
        for segment in range(self.num_segments):
            state = self.run_segment(segment, state, self.path(segment, chosen))
        logits: Tensor = state
        return logits

    def forward_profiles(
        self, images: Tensor, profiles: Sequence[DepthProfile]
    ) -> dict[DepthProfile, Tensor]:
        """Run several depths and share what they have in common.

        Profiles are walked as a tree of prefixes, depth first: all 16 of a four-stage network take 30 stage
        runs instead of 64, and at most one hidden state a stage is alive without gradients. The two extremes
        share the stem where it does not follow a letter.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            profiles: Profiles of this network, without repetition.

        Returns:
            Logits by profile, shape (B, K) each, equal bit for bit to separate runs.
        """
        return {profile: states[0] for profile, states in self._walk(images, profiles, num_kept=1).items()}

    def trace_profiles(self, images: Tensor, profiles: Sequence[DepthProfile]) -> dict[DepthProfile, "Trace"]:
        """Run several depths as `forward_profiles` does, and keep what every stage made of the images."""
        walked = self._walk(images, profiles, num_kept=len(self.layouts) + 1)
        return {profile: Trace(states[-1], states[:-1]) for profile, states in walked.items()}

    def _walk(
        self, images: Tensor, profiles: Sequence[DepthProfile], *, num_kept: int
    ) -> dict[DepthProfile, tuple[State, ...]]:
        """Return the last states of every profile, logits last."""
        ends: dict[DepthProfile, tuple[State, ...]] = {}

        def walk(states: tuple[State, ...], segment: int, members: Sequence[DepthProfile]) -> None:
            if segment == self.num_segments:
                ends[members[0]] = states
                return
            for path in sorted({self.path(segment, profile) for profile in members}):
                branch = [profile for profile in members if self.path(segment, profile) == path]
                state = self.run_segment(segment, states[-1], path)
                walk((*states, state)[-num_kept:], segment + 1, branch)

        walk((images,), 0, profiles)
        return {profile: ends[profile] for profile in profiles}

    def pool_state(self, state: State) -> Tensor:
        """Return the mean over all positions of what a stage returned, shape (B, channels)."""
        hidden = hidden_of(state)
        if hidden.ndim == 4 and not self.family.has_channels_last:
            return hidden.mean(dim=(2, 3))
        return hidden.flatten(1, -2).mean(dim=1)

    @property
    def num_segments(self) -> int:
        """How many parts run one after the other: the stem, the stages, the head."""
        return len(self.layouts) + 2

    def path(self, segment: int, profile: DepthProfile) -> str:
        """Return the letters that a profile has shown when a segment (see `run_segment`) runs."""
        return profile.letters[: self._letters.length(segment)]

    def paths(self, segment: int) -> list[str]:
        """Return all paths to a segment, the whole one first and the skipped one last."""
        return self._letters.paths(segment)

    def skips(self, segment: int, path: str) -> bool:
        """Return whether a segment's skipped form runs at the end of a path."""
        return self._letters.skips(segment, path)

    def form(self, segment: int, path: str) -> Form:
        """Return the modules that run a segment; paths that run the same share one form."""
        return self._wiring.form(segment, path)

    def run_segment(self, segment: int, state: State, path: str) -> State:
        """Run one segment: the stem on images, a stage on what came before, the head to logits.

        Args:
            segment: 0 is the stem, then one a stage, then the head.
            state: Images, shape (B, channels, height, width), or what the segment before returned.
            path: Letters of the stages so far, this one's included; see `path`.
        """
        learns = self.training and torch.is_grad_enabled()
        is_stage = 0 < segment < self.num_segments - 1
        for number, module in enumerate(self.form(segment, path)):
            run = self._compiled_run(segment, path, number) if learns else self._run(segment)
            if learns and is_stage and self.recomputes_activations:
                state = run_recomputed(run, self.family, module, state)
            else:
                state = run(self.family, module, state)
        return state

    def compile(self, **options: Any) -> None:  # noqa: ANN401
        """Compile the training passes, one graph for each structure that a segment has.

        All depths and all sets of students share these graphs; a form of a segment that differs only in
        its norms needs no other. Evaluation runs as before: it comes in batches of other sizes.

        Args:
            **options: Passed to `torch.compile`.
        """
        self._compiler = functools.partial(torch.compile, **options)

    def _run(self, segment: int) -> Run:
        if segment == 0:
            return run_stem
        return run_head if segment == self.num_segments - 1 else run_stage

    def _compiled_run(self, segment: int, path: str, number: int) -> Run:
        """Return what runs a module of a form, compiled where `compile` was called."""
        if self._compiler is None:
            return self._run(segment)
        structure = (segment, self._num_blocks(segment, path), number)
        if structure not in self._compiled:
            self._compiled[structure] = self._compiler(with_own_code(self._run(segment)))
        return self._compiled[structure]

    def _num_blocks(self, segment: int, path: str) -> int | None:
        """Return how many blocks a stage runs; its forms that run as many differ only in norms."""
        if not 0 < segment < self.num_segments - 1:
            return None
        return self._split_now[segment - 1] if self.skips(segment, path) else None

    @property
    def _split_now(self) -> tuple[int, ...]:
        """Mandatory blocks of every stage."""
        return self.split

    def subnetwork(self, profile: str | DepthProfile) -> nn.Module:
        """Return one depth as an ordinary timm model: skipped blocks gone, the right norms in place.

        Its weights are this network's own, not copies. It consults no flag when it runs, so it compiles,
        exports and serves from many threads like any timm model.
        """
        chosen = self.parse_profile(profile)
        paths = [self.path(segment, chosen) for segment in range(self.num_segments)]
        return rewire(self.backbone, self._wiring.replacements(paths))

    def with_path_statistics(self) -> Self:
        """Return a copy whose norms keep running statistics for every path apart; they start as copies."""
        _ = self.segment_macs  # counted here once, they are not counted in every copy
        network = copy.deepcopy(self)
        network.description = replace(self.description, path_statistics=True)
        network.reset_path_statistics()
        return network

    def reset_path_statistics(self) -> None:
        """Start the statistics of every path, where they are apart, as copies of what the norms remember."""
        if self.description.path_statistics:
            self._statistics_segments = locate_statistics(
                self.backbone, self.family, self.layouts, input_shape=self.input_shape
            )
            self.path_statistics = separate_statistics(
                self.backbone, self.skip_norms, self._letters, self._skips, self._statistics_segments
            )
        self._wired = self._wire()

    def statistic_norms(self) -> tuple[nn.Module, ...]:
        """Return every norm that keeps running statistics, in all forms, each once."""
        forms = [
            form
            for segment in range(self.num_segments)
            for path in self.paths(segment)
            for form in self.form(segment, path)
        ]
        return tuple(dict.fromkeys(m for form in forms for m in form.modules() if keeps_statistics(m)))

    def left_out(self, profile: str | DepthProfile) -> tuple[str, ...]:
        """Return the blocks that one depth leaves out, by dotted path in the backbone."""
        skips = zip(self.parse_profile(profile).letters, self._skips, strict=True)
        return tuple(block for letter, skip in skips if letter == SKIPPED for block in skip.blocks)

    def cost(self, profile: str | DepthProfile) -> ProfileCost:
        """Return the multiply-adds for one image and the parameters of one depth."""
        parameters = sum(parameter.numel() for parameter in self.subnetwork(profile).parameters())
        return ProfileCost(self.macs(profile), parameters)

    def macs(self, profile: str | DepthProfile) -> int:
        """Return the multiply-adds of one depth for one image; unlike `cost` it builds nothing."""
        chosen = self.parse_profile(profile)
        segments = self.segment_macs
        return sum(
            segments.skipped[segment]
            if self.skips(segment, self.path(segment, chosen))
            else segments.whole[segment]
            for segment in range(self.num_segments)
        )

    def train(self, mode: bool = True) -> Self:
        """Set training mode, in the skipped forms as well."""
        super().train(mode)
        self._wiring.follow_originals()
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activations inside stages while training and compute them again in the backward pass."""
        self.recomputes_activations = enable

    @property
    def drops_paths(self) -> bool:
        """Whether stochastic depth acts anywhere when the network trains."""
        return any(map(drops_paths, self.backbone.modules()))

    def set_student_drop_path(self, enable: bool = True) -> None:
        """Say whether stochastic depth acts behind the first skipped stage of a path, as it does before it.

        It is a matter of training alone: static sub-networks keep timm's modules.
        """
        self.students_drop_paths = enable
        self._wired = self._wire()

    def no_weight_decay(self) -> set[str]:
        """Return the parameters, besides norms and biases, that timm's optimisers must not decay."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}

    def group_matcher(self, coarse: bool = False) -> GroupMatcher:
        """Return how timm groups parameters by depth, for layer-wise learning rates.

        A skip-aware norm is in the group of the norm that it stands for.

        Raises:
            ValueError: If timm does not order the layers of the backbone.
        """
        if not hasattr(self.backbone, "group_matcher"):
            raise ValueError(
                f"layer-wise learning rates need a backbone whose layers timm orders, got {self.name} "
                f"({type(self.backbone).__name__}); leave training.layer_decay out"
            )
        own: GroupMatcher = self.backbone.group_matcher(coarse=coarse)  # type: ignore[operator]
        if not isinstance(own, dict):
            return lambda name: own(name.partition(".")[2])
        return {
            group: [(_below_either(pattern), order) for pattern, order in patterns]
            if isinstance(patterns, list | tuple)
            else _below_either(patterns)
            for group, patterns in own.items()
            if patterns is not None
        }

    @property
    def _wiring(self) -> Wiring:
        # A compiler sees the modules as they were when it started.
        modules = (self.backbone, self.skip_norms, self.path_statistics)
        if not (torch.compiler.is_compiling() or self._wired.is_current(*modules)):
            self._wired = self._wire()
        return self._wired

    def _wire(self) -> Wiring:
        return Wiring(
            self.backbone,
            self.skip_norms,
            self.path_statistics,
            layouts=self.layouts,
            letters=self._letters,
            skips=self._skips,
            segments=self._statistics_segments,
            students_drop_paths=self.students_drop_paths,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles what they make anew: forms of their own modules, compiled code."""
        state = {**self.__dict__, "_compiler": None, "_compiled": {}}
        del state["_wired"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._wired = self._wire()

    def _double_norms(self) -> nn.Module:
        """Return a second set of the norms that letters exchange, at the same paths as in the backbone."""
        skip_norms = nn.Module()
        for skip in self._skips:
            for path in skip.norms:
                insert(skip_norms, path, copy.deepcopy(self.backbone.get_submodule(path)))
        return skip_norms


def _below_either(pattern: str) -> str:
    """Return a pattern for a backbone's names as one for names below `backbone` and `skip_norms`."""
    unanchored = re.sub(r"(?<!\[)\^", "", pattern)
    return rf"(?:backbone|skip_norms)\.(?:{unanchored})"


def memory_format(network: "Network") -> torch.memory_format:
    """Return the memory format in which a network's images and weights run fastest."""
    return torch.channels_last if network.family.is_convolutional else torch.contiguous_format
