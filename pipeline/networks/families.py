"""Where each timm family keeps its stem, stages and tail: data, no model code.

A row names what the timm class runs before, in and after its stages, in the order of its
`forward_features`; what follows is the class's own `forward_head`. To support a family is to add a row, and a
small function where its blocks take more than the hidden state. Which blocks can be skipped is not written
here: it is found out (see `probe`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed_nhwc
from torch import Tensor, nn

State = Any
"""What runs from block to block: the hidden state, or a flat tuple that starts with it."""

Step = str | Callable[[nn.Module, State], State]
"""An attribute of the backbone to call, or a function of the backbone and the state."""


def run_steps(backbone: nn.Module, steps: Sequence[Step], state: State) -> State:
    """Run steps of a backbone one after the other."""
    for step in steps:
        state = getattr(backbone, step)(state) if isinstance(step, str) else step(backbone, state)
    return state


def _call(module: nn.Module, state: State) -> State:
    return module(state)


def _call_with_all(module: nn.Module, state: State) -> State:
    return module(*state)


@dataclass(frozen=True)
class Family:
    """How a timm class is laid out.

    Attributes:
        stem: Steps before the stages.
        stages: Modules that run one stage each; `name.*` means every child. None where the blocks of all
            stages are in one container: a stage then starts at every block that changes the shape, and blocks
            that are all alike are grouped in virtual stages.
        blocks: Where a stage keeps its blocks, `*` for its children; where the backbone does, without stages.
        tail: Steps between the stages and `forward_head`.
        run: Runs a module of a stage (its own or, without stages, a block) on the state.
        is_convolutional: Runs fastest with channels-last memory.
        has_channels_last: Between stages a hidden state of four axes is (B, H, W, C), not (B, C, H, W).
        shared_norms: Submodules whose norms are not doubled: shortcuts see the same input statistics.
        doubles_boundaries: The norms before the first skippable stage follow its letter, those between and
            after skippable stages follow the stage before them (the paper's MobileNetV2).
        objection: Says why a model of the class cannot lose blocks, or None.
    """

    stem: tuple[Step, ...]
    stages: tuple[str, ...] | None = None
    blocks: str = "blocks.*"
    tail: tuple[Step, ...] = ()
    run: Callable[[nn.Module, State], State] = _call
    is_convolutional: bool = True
    has_channels_last: bool = False
    shared_norms: tuple[str, ...] = ()
    doubles_boundaries: bool = False
    objection: Callable[[nn.Module], str | None] | None = None


def hidden_of(state: State) -> Tensor:
    """Return the hidden part of what a block or stage is given or returns; some carry more along."""
    hidden: Tensor = state[0] if isinstance(state, tuple) else state
    return hidden


def _hidden_only(_: nn.Module, state: State) -> State:
    return hidden_of(state)


def _add_position(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    return hidden if backbone.pos_embed is None else hidden + backbone.pos_embed


def _prepend_class_token(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if backbone.cls_token is None:
        return hidden
    return torch.cat((backbone.cls_token.expand(hidden.shape[0], -1, -1), hidden), dim=1)


# Eva and its kin: rotary embeddings are computed once and are an input of every block.


def _run_with_rope(block: nn.Module, state: State) -> State:
    hidden, rope = state
    return (block(hidden) if rope is None else block(hidden, rope=rope)), rope


def _eva_norm_pre(backbone: Any, state: State) -> State:  # noqa: ANN401
    hidden, rope = state
    return backbone.norm_pre(hidden), rope


def _eva_objection(backbone: Any) -> str | None:  # noqa: ANN401
    if backbone.rope_mixed:
        return "every block has a row of its own in the rotary embeddings, so none can be left out"
    return None


def _naflex_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    embeds = backbone._forward_embeds(images, patch_coord=None, patch_valid=None, attn_mask=None)
    return embeds["patches"], embeds.get("rope_embeds")


def _naflex_objection(backbone: Any) -> str | None:  # noqa: ANN401
    if backbone.rope_is_mixed:
        return "every block has a row of its own in the rotary embeddings, so none can be left out"
    return None


# BEiT and relative-position ViTs: a bias that all blocks share.


def _beit_bias(backbone: Any, hidden: Tensor) -> State:  # noqa: ANN401
    return hidden, None if backbone.rel_pos_bias is None else backbone.rel_pos_bias()


def _run_beit(block: nn.Module, state: State) -> State:
    hidden, bias = state
    return block(hidden, shared_rel_pos_bias=bias), bias


def _relative_bias(backbone: Any, hidden: Tensor) -> State:  # noqa: ANN401
    return hidden, None if backbone.shared_rel_pos is None else backbone.shared_rel_pos.get_bias()


def _run_relative(block: nn.Module, state: State) -> State:
    hidden, bias = state
    return block(hidden, shared_rel_pos=bias), bias


# XCiT: blocks are told the height and width in patches; class attention follows.


def _xcit_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    hidden, (height, width) = backbone.patch_embed(images)
    if backbone.pos_embed is not None:
        position = backbone.pos_embed(images.shape[0], height, width)
        hidden = hidden + position.reshape(images.shape[0], -1, hidden.shape[1]).permute(0, 2, 1)
    return backbone.pos_drop(hidden), height, width


def _run_xcit(block: nn.Module, state: State) -> State:
    hidden, height, width = state
    return block(hidden, height, width), height, width


def _xcit_class_attention(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    return hidden if backbone.cls_attn_blocks is None else backbone.forward_cls(hidden)


def _cait_class_attention(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    return hidden if backbone.blocks_token_only is None else backbone.forward_cls(hidden)


# Classes whose stages hand on more than the hidden state.


def _mvit_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    hidden, size = backbone.patch_embed(images)
    return _add_position(backbone, _prepend_class_token(backbone, hidden)), size


def _pit_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    hidden = backbone.patch_embed(images)
    hidden = backbone.pos_drop(hidden + backbone.pos_embed)
    return hidden, backbone.cls_token.expand(hidden.shape[0], -1, -1)


def _pit_norm(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    class_tokens: Tensor = backbone.norm(state[1])
    return class_tokens


def _tnt_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    batch = images.shape[0]
    pixels = backbone.pixel_embed(images, backbone.pixel_pos)
    patches = backbone.norm1_proj(pixels.reshape(batch, backbone.num_patches, -1))
    patches = backbone.norm2_proj(backbone.proj(patches))
    patches = _prepend_class_token(backbone, patches) + backbone.patch_pos
    return pixels, backbone.pos_drop(patches)


def _tnt_norm(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    patches: Tensor = backbone.norm(state[1])
    return patches


# VOLO: positions are added in front of its third stage.


def _volo_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    return backbone.patch_embed(images).permute(0, 2, 3, 1), 0, backbone.pos_embed


def _run_volo(stage: nn.Module, state: State) -> State:
    hidden, number, position = state
    if number == 2 and position is not None:
        hidden = hidden + position
    return stage(hidden), number + 1, position


def _volo_class_attention(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    hidden: Tensor = state[0].flatten(1, 2)
    return hidden if backbone.post_network is None else backbone.forward_cls(hidden)


def _volo_objection(backbone: Any) -> str | None:  # noqa: ANN401
    if backbone.pos_drop.p > 0:
        return "it drops positions out between two stages; leave pos_drop_rate at 0"
    return None


# Classes whose head takes what several stages made: the state collects it.


def _mobilenetv5_stem(_: nn.Module, hidden: Tensor) -> State:
    return hidden, hidden


def _run_collecting(stage: nn.Module, state: State) -> State:
    hidden = stage(state[0])
    return hidden, *state[1:], hidden


def _mobilenetv5_fusion(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    hidden, *features = state
    if backbone.msfa is not None:
        hidden = backbone.msfa([features[index] for index in backbone.msfa_indices])
    fused: Tensor = hidden
    return fused


def _efficientvim_stem(_: nn.Module, hidden: Tensor) -> State:
    return (hidden,)


def _run_efficientvim(stage: nn.Module, state: State) -> State:
    _, hidden, summary = stage(state[0])
    return hidden, *state[1:], summary


def _efficientvim_norms(backbone: Any, state: State) -> list[Tensor]:  # noqa: ANN401
    hidden, *summaries = state
    normed = [
        norm(summary.transpose(1, 2)).transpose(1, 2)
        for norm, summary in zip(backbone.norm, summaries, strict=False)
    ]
    return [*normed, backbone.norm[-1](hidden).flatten(2)]


# Classifiers around the vision tower of a language model.


def _tower_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    hidden = backbone.encoder.patch_embed(images)
    tokens, rope = backbone.encoder._pos_embed(hidden)
    return tokens, rope, hidden.shape[1:3]


def _run_tower(block: nn.Module, state: State) -> State:
    hidden, rope, grid = state
    return block(hidden, rope=rope), rope, grid


def _qwen_tokens(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    return _merged(backbone.encoder.merger, state[0], state[2])


def _deepseek_tokens(backbone: Any, state: State) -> Tensor:  # noqa: ANN401
    return _merged(backbone.encoder.aligner, backbone.encoder.norm(state[0]), state[2])


def _merged(merger: nn.Module | None, tokens: Tensor, grid: Sequence[int]) -> Tensor:
    tokens = tokens.reshape(tokens.shape[0], *grid, tokens.shape[-1])
    merged: Tensor = tokens if merger is None else merger(tokens)
    return merged


def _gemma_stem(backbone: Any, images: Tensor) -> State:  # noqa: ANN401
    tokens, coordinates, _ = backbone.encoder.patch_embed(images)
    return tokens, *backbone.encoder.rotary_emb(tokens, coordinates)


def _run_gemma(block: nn.Module, state: State) -> State:
    hidden, cos, sin = state
    return block(hidden, cos, sin), cos, sin


def _gemma_objection(backbone: Any) -> str | None:  # noqa: ANN401
    if backbone.encoder.global_pool not in ("", "none"):
        return "its encoder pools by the patches' coordinates; leave encoder_pool out"
    return None


# Small differences.


def _levit_tokens(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    return hidden if backbone.use_conv else hidden.flatten(2).transpose(1, 2)


def _tresnet_stem(backbone: Any, images: Tensor) -> Tensor:  # noqa: ANN401
    hidden: Tensor = backbone.body.conv1(backbone.body.s2d(images))
    return hidden


def _nest_norm(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    normed: Tensor = backbone.norm(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return normed


def _sam_position(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if backbone.pos_embed is None:
        return hidden
    position: Tensor = resample_abs_pos_embed_nhwc(backbone.pos_embed, hidden.shape[1:3])
    return hidden + position


def _sam_neck(backbone: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    neck: Tensor = backbone.neck(hidden.permute(0, 3, 1, 2))
    return neck


_VIT_STEM = ("patch_embed", "_pos_embed", "patch_drop", "norm_pre")

FAMILIES: dict[str, Family] = {
    # Convolutions, residual blocks.
    "ResNet": Family(
        stem=("conv1", "bn1", "act1", "maxpool"),
        stages=("layer1", "layer2", "layer3", "layer4"),
        blocks="*",
        shared_norms=("downsample",),
    ),
    "SENet": Family(
        stem=("layer0", "pool0"),
        stages=("layer1", "layer2", "layer3", "layer4"),
        blocks="*",
        shared_norms=("downsample",),
    ),
    "TResNet": Family(
        stem=(_tresnet_stem,),
        stages=("body.layer1", "body.layer2", "body.layer3", "body.layer4"),
        blocks="*",
        shared_norms=("downsample",),
    ),
    "XceptionAligned": Family(stem=("stem",), tail=("act",), shared_norms=("shortcut",)),
    "ResNetV2": Family(stem=("stem",), stages=("stages.*",), tail=("norm",), shared_norms=("downsample",)),
    "RegNet": Family(
        stem=("stem",),
        stages=("s1", "s2", "s3", "s4"),
        blocks="*",
        tail=("final_conv",),
        shared_norms=("downsample",),
    ),
    "ByobNet": Family(
        stem=("stem",), stages=("stages.*",), blocks="*", tail=("final_conv",), shared_norms=("shortcut",)
    ),
    "NormFreeNet": Family(stem=("stem",), stages=("stages.*",), blocks="*", tail=("final_conv", "final_act")),
    "CspNet": Family(stem=("stem",), stages=("stages.*",)),
    "CspNext": Family(stem=("stem",), stages=("stages.*",), blocks="1.blocks.*"),
    "VovNet": Family(stem=("stem",), stages=("stages.*",)),
    "HighPerfGpuNet": Family(stem=("stem",), stages=("stages.*",)),
    # Inverted residuals.
    "EfficientNet": Family(
        stem=("conv_stem", "bn1"),
        stages=("blocks.*",),
        blocks="*",
        doubles_boundaries=True,
        tail=("conv_head", "bn2"),
    ),
    "MobileNetV3": Family(
        stem=("conv_stem", "bn1"), stages=("blocks.*",), blocks="*", doubles_boundaries=True
    ),
    "GhostNet": Family(
        stem=("conv_stem", "bn1", "act1"),
        stages=("blocks.*",),
        blocks="*",
        doubles_boundaries=True,
        shared_norms=("shortcut",),
    ),
    "RepGhostNet": Family(
        stem=("conv_stem", "bn1", "act1"),
        stages=("blocks.*",),
        blocks="*",
        doubles_boundaries=True,
        shared_norms=("shortcut",),
    ),
    "MobileNetV5": Family(
        stem=("conv_stem", _mobilenetv5_stem),
        stages=("blocks.*",),
        blocks="*",
        run=_run_collecting,
        doubles_boundaries=True,
        tail=(_mobilenetv5_fusion,),
    ),
    "LCNetV2": Family(stem=("stem",), stages=("stages.*",), blocks="*"),
    # Modern convolutional networks.
    "ConvNeXt": Family(stem=("stem",), stages=("stages.*",), tail=("norm_pre",)),
    "MetaNeXt": Family(stem=("stem",), stages=("stages.*",)),
    "MetaFormer": Family(stem=("stem",), stages=("stages.*",)),
    "MambaOut": Family(stem=("stem",), stages=("stages.*",), has_channels_last=True),
    "FocalNet": Family(stem=("stem",), stages=("layers.*",), tail=("norm",)),
    "StarNet": Family(stem=("stem",), stages=("stages.*",), blocks="*", tail=("norm",)),
    "FasterNet": Family(stem=("patch_embed",), stages=("stages.*",)),
    "FastVit": Family(stem=("stem",), stages=("stages.*",), tail=("final_conv",)),
    "RepVit": Family(stem=("stem",), stages=("stages.*",)),
    "SwiftFormer": Family(stem=("stem",), stages=("stages.*",), tail=("norm",)),
    "EfficientFormer": Family(stem=("stem",), stages=("stages.*",), tail=("norm",)),
    "EfficientFormerV2": Family(stem=("stem",), stages=("stages.*",), tail=("norm",)),
    "EdgeNeXt": Family(stem=("stem",), stages=("stages.*",), tail=("norm_pre",)),
    "MaxxVit": Family(stem=("stem",), stages=("stages.*",), tail=("norm",)),
    "IFormer": Family(stem=("stem",), stages=("stages.*",)),
    "LowFormer": Family(stem=("stem",), stages=("stages.*",), blocks="*"),
    "CPUBone": Family(stem=("stem",), stages=("stages.*",), blocks="*"),
    "EfficientVit": Family(stem=("stem",), stages=("stages.*",)),
    "EfficientVitLarge": Family(stem=("stem",), stages=("stages.*",)),
    "NextViT": Family(stem=("stem",), stages=("stages.*",), tail=("norm",)),
    "SHViT": Family(stem=("patch_embed",), stages=("stages.*",)),
    "EfficientViM": Family(
        stem=("patch_embed", _efficientvim_stem),
        stages=("stages.*",),
        run=_run_efficientvim,
        tail=(_efficientvim_norms,),
    ),
    "EfficientViMDistilled": Family(
        stem=("patch_embed", _efficientvim_stem),
        stages=("stages.*",),
        run=_run_efficientvim,
        tail=(_efficientvim_norms,),
    ),
    # Transformers in stages.
    "SwinTransformer": Family(
        stem=("patch_embed",),
        stages=("layers.*",),
        tail=("norm",),
        is_convolutional=False,
        has_channels_last=True,
    ),
    "SwinTransformerV2": Family(
        stem=("patch_embed",),
        stages=("layers.*",),
        tail=("norm",),
        is_convolutional=False,
        has_channels_last=True,
    ),
    "SwinTransformerV2Cr": Family(stem=("patch_embed",), stages=("stages.*",), is_convolutional=False),
    "DaVit": Family(stem=("stem",), stages=("stages.*",), tail=("norm_pre",)),
    "GlobalContextVit": Family(stem=("stem",), stages=("stages.*",), is_convolutional=False),
    "PyramidVisionTransformerV2": Family(stem=("patch_embed",), stages=("stages.*",), is_convolutional=False),
    "CSATv2": Family(stem=("stem_dct",), stages=("stages.*",), blocks="*"),
    "EfficientVitMsra": Family(stem=("patch_embed",), stages=("stages.*",), is_convolutional=False),
    "TinyVit": Family(stem=("patch_embed",), stages=("stages.*",)),
    "Nest": Family(
        stem=("patch_embed",),
        stages=("levels.*",),
        blocks="transformer_encoder.*",
        tail=(_nest_norm,),
        is_convolutional=False,
    ),
    "Levit": Family(stem=("stem", _levit_tokens), stages=("stages.*",), is_convolutional=False),
    "LevitDistilled": Family(stem=("stem", _levit_tokens), stages=("stages.*",), is_convolutional=False),
    "MultiScaleVit": Family(
        stem=(_mvit_stem,),
        stages=("stages.*",),
        run=_call_with_all,
        tail=(_hidden_only, "norm"),
        is_convolutional=False,
    ),
    "PoolingVisionTransformer": Family(
        stem=(_pit_stem,),
        stages=("transformers.*",),
        tail=(_pit_norm,),
        is_convolutional=False,
    ),
    "VOLO": Family(
        stem=(_volo_stem,),
        stages=("network.*",),
        blocks="*",
        run=_run_volo,
        tail=(_volo_class_attention, "norm"),
        is_convolutional=False,
        objection=_volo_objection,
        has_channels_last=True,
    ),
    "Hiera": Family(stem=("patch_embed", "_pos_embed", "unroll"), is_convolutional=False),
    "HieraDet": Family(stem=("patch_embed", "_pos_embed"), is_convolutional=False, has_channels_last=True),
    # Isotropic transformers and mixers.
    "VisionTransformer": Family(stem=_VIT_STEM, tail=("norm",), is_convolutional=False),
    "VisionTransformerDistilled": Family(stem=_VIT_STEM, tail=("norm",), is_convolutional=False),
    "VisionTransformerRelPos": Family(
        stem=("patch_embed", _prepend_class_token, _relative_bias),
        run=_run_relative,
        tail=(_hidden_only, "norm"),
        is_convolutional=False,
    ),
    "VisionTransformerSAM": Family(
        stem=("patch_embed", _sam_position, "pos_drop", "patch_drop", "norm_pre"),
        tail=(_sam_neck,),
        is_convolutional=False,
        has_channels_last=True,
    ),
    "NaFlexVit": Family(
        stem=(_naflex_stem,),
        run=_run_with_rope,
        tail=(_hidden_only, "norm"),
        is_convolutional=False,
        objection=_naflex_objection,
    ),
    "Eva": Family(
        stem=("patch_embed", "_pos_embed", _eva_norm_pre),
        run=_run_with_rope,
        tail=(_hidden_only, "norm"),
        is_convolutional=False,
        objection=_eva_objection,
    ),
    "Beit": Family(
        stem=("patch_embed", _prepend_class_token, _add_position, "pos_drop", _beit_bias),
        run=_run_beit,
        tail=(_hidden_only, "norm"),
        is_convolutional=False,
    ),
    "Cait": Family(
        stem=("patch_embed", _add_position, "pos_drop"),
        tail=(_cait_class_attention, "norm"),
        is_convolutional=False,
    ),
    "Xcit": Family(
        stem=(_xcit_stem,),
        run=_run_xcit,
        tail=(_hidden_only, _xcit_class_attention, "norm"),
        is_convolutional=False,
    ),
    "TNT": Family(stem=(_tnt_stem,), run=_call_with_all, tail=(_tnt_norm,), is_convolutional=False),
    "Qwen3VitClassifier": Family(
        stem=(_tower_stem,),
        blocks="encoder.blocks.*",
        run=_run_tower,
        tail=(_qwen_tokens,),
        is_convolutional=False,
    ),
    "DeepseekVitClassifier": Family(
        stem=(_tower_stem,),
        blocks="encoder.blocks.*",
        run=_run_tower,
        tail=(_deepseek_tokens,),
        is_convolutional=False,
    ),
    "Gemma4VitClassifier": Family(
        stem=(_gemma_stem,),
        blocks="encoder.blocks.*",
        run=_run_gemma,
        tail=(_hidden_only,),
        is_convolutional=False,
        objection=_gemma_objection,
    ),
    "MlpMixer": Family(stem=("stem",), tail=("norm",), is_convolutional=False),
}


_CHAIN = "its layers form a chain without residual blocks"
_CONCATENATES = "its blocks concatenate features, so each of them changes the shape"
_PARALLEL = "branches of different resolution run in parallel and exchange features"
_POSITIONS_BETWEEN = "it computes positions between blocks that a skip would part"
_ENCODER = "it encodes images for a language model and has no classifier"

REFUSALS: dict[str, str] = {
    "VGG": _CHAIN,
    "InceptionV3": _CHAIN,
    "InceptionV4": _CHAIN,
    "InceptionResnetV2": "reductions without an identity path lie between its stages",
    "Xception": "its residual blocks are single attributes of the model, not stages",
    "DenseNet": _CONCATENATES,
    "RDNet": _CONCATENATES,
    "DPN": _CONCATENATES,
    "SelecSls": _CONCATENATES,
    "NASNetALarge": "its cells take the outputs of the two cells before",
    "PNASNet5Large": "its cells take the outputs of the two cells before",
    "DLA": "its blocks are joined in trees, whose roots need the outputs of several blocks",
    "HighResolutionNet": _PARALLEL,
    "CoaT": _PARALLEL,
    "CrossVit": "two branches with patches of different size run in parallel",
    "Twins": _POSITIONS_BETWEEN,
    "Visformer": _POSITIONS_BETWEEN,
    "ConVit": "it adds its class token between two blocks that it finds by their number",
    "RexNet": "its blocks widen the features, so almost each of them changes the shape",
    "ConvMixer": "its blocks end in a convolution, so that no identity path leads around them",
    "Sequencer2d": "its blocks are recurrent, and the multiply-adds of an LSTM cannot be counted",
    "MobileNetV5Encoder": _ENCODER,
    "Qwen3VitEncoder": _ENCODER,
    "DeepseekVitEncoder": _ENCODER,
    "Gemma4VitEncoder": _ENCODER,
}
"""Why classes of timm are not in the table, by the property that they lack."""


def family_of(backbone: nn.Module) -> Family | None:
    """Return the row for a timm model, or None if its class is not in the table."""
    return FAMILIES.get(type(backbone).__name__)
