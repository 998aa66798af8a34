"""Two small real networks of every family; where timm has none that is small, its arguments make one."""

from pipeline.networks import NetworkDescription

TINY_VIT = {"depth": 4, "embed_dim": 32, "num_heads": 2}
TINY_SWIN = {"embed_dim": 16, "depths": (2, 2, 3, 2), "num_heads": (1, 2, 4, 8)}
TINY_CONV = {"depths": (2, 2, 3, 2), "dims": (16, 24, 32, 48)}


def instance(name: str, image_size: int | None = None, **kwargs) -> NetworkDescription:
    return NetworkDescription(name, 7, image_size=image_size, kwargs=kwargs)


INSTANCES: dict[str, tuple[NetworkDescription, ...]] = {
    "ResNet": (
        instance("resnet18", 64, channels=(8, 8, 16, 16), zero_init_last=False),
        instance("resnest26d", 64, channels=(16, 16, 16, 16)),
        instance("seresnext26d_32x4d", 64, layers=(2, 2, 3, 2), channels=(32, 32, 32, 32)),
        instance("ecaresnet26t", 64, zero_init_last=False),
    ),
    "SENet": (instance("legacy_seresnet18", 64), instance("legacy_seresnext26_32x4d", 64)),
    "TResNet": (
        instance("tresnet_m", 32, layers=(2, 1, 1, 1), width_factor=0.25),
        instance("tresnet_l", 32, layers=(1, 2, 1, 1), width_factor=0.25),
    ),
    "XceptionAligned": (instance("xception41", 64), instance("xception65", 48)),
    "ResNetV2": (
        instance("resnetv2_18", 64, channels=(32, 32, 64, 64), zero_init_last=False),
        instance("resnetv2_50x1_bit", 64),
    ),
    "RegNet": (instance("regnetx_002", 64), instance("regnety_002", 64)),
    "ByobNet": (
        instance("mobilevit_xxs", 128),
        instance("gcresnet33ts", 64),
        instance("mobilevitv2_050", 128),
    ),
    "NormFreeNet": (instance("nf_regnet_b0", 64), instance("nf_resnet26", 64)),
    "CspNet": (instance("cs3darknet_focus_s", 64), instance("cspresnet50", 64)),
    "VovNet": (instance("eca_vovnet39b", 64), instance("ese_vovnet39b", 64)),
    "HighPerfGpuNet": (instance("hgnetv2_b0", 64), instance("hgnetv2_b1", 64)),
    "EfficientNet": (
        instance("mobilenetv2_035", 64),
        instance("mnasnet_small", 64),
        instance("efficientnet_b0_gn", 64),
        instance("tf_efficientnetv2_b0", 64),
    ),
    "MobileNetV3": (instance("mobilenetv3_small_050", 64), instance("mobilenetv4_conv_small_050", 64)),
    "GhostNet": (instance("ghostnet_050", 64), instance("ghostnetv3_050", 64)),
    "RepGhostNet": (instance("repghostnet_050", 64), instance("repghostnet_058", 64)),
    "ConvNeXt": (
        instance("test_convnext", 64),
        instance("convnextv2_atto", 64, **TINY_CONV),
        instance("convnext_zepto_rms", 64, **TINY_CONV),
    ),
    "MetaNeXt": (
        instance("inception_next_atto", 64),
        instance("inception_next_tiny", 64, depths=(2, 2, 3, 2), dims=(24, 32, 48, 64)),
    ),
    "MetaFormer": (
        instance("poolformer_s12", 64),
        instance("caformer_s18", 64),
    ),
    "MambaOut": (
        instance("test_mambaout", 64, depths=(2, 2, 3, 2)),
        instance("mambaout_femto", 64, depths=(2, 2, 3, 2), dims=(16, 24, 32, 48)),
    ),
    "FocalNet": (
        instance("focalnet_tiny_srf", 64),
        instance("focalnet_tiny_lrf", 64),
    ),
    "StarNet": (instance("starnet_s050", 64), instance("starnet_s100", 64)),
    "FasterNet": (instance("fasternet_t0", 64), instance("fasternet_t1", 64)),
    "FastVit": (instance("fastvit_t8", 64), instance("fastvit_t12", 64)),
    "RepVit": (instance("repvit_m1", 64), instance("repvit_m2", 64)),
    "SwiftFormer": (instance("swiftformer_xs", 64), instance("swiftformer_s", 64)),
    "EfficientFormer": (instance("efficientformer_l1"), instance("efficientformer_l3")),
    "EfficientFormerV2": (instance("efficientformerv2_s0"), instance("efficientformerv2_s1")),
    "EdgeNeXt": (instance("edgenext_xx_small", 64), instance("edgenext_x_small", 64)),
    "MaxxVit": (
        instance("test_coatnet", 64),
        instance("maxvit_pico_rw_256", 64, depths=(2, 2, 2, 2)),
    ),
    "IFormer": (instance("iformer_t", 64), instance("iformer_s", 64)),
    "LowFormer": (instance("lowformer_b0", 64), instance("lowformer_e1", 64)),
    "CPUBone": (instance("cpubone_nano", 64), instance("cpubone_t0", 64)),
    "EfficientVit": (instance("efficientvit_b0", 64), instance("efficientvit_b1", 64)),
    "EfficientVitLarge": (
        instance("efficientvit_l1", 64, widths=(8, 16, 32, 64, 64), depths=(1, 1, 1, 2, 3)),
        instance("efficientvit_l2", 64, widths=(8, 16, 32, 64, 64), depths=(1, 2, 2, 3, 2)),
    ),
    "NextViT": (
        instance("nextvit_small", 64, depths=(3, 2, 5, 2)),
        instance("nextvit_base", 64, depths=(2, 2, 5, 2)),
    ),
    "SHViT": (instance("shvit_s1", 128), instance("shvit_s2", 128)),
    "SwinTransformer": (
        instance("swin_tiny_patch4_window7_224", 56, **TINY_SWIN),
        instance("swin_s3_tiny_224", 56, **TINY_SWIN, window_size=(7, 7, 7, 7)),
    ),
    "SwinTransformerV2": (
        instance("swinv2_tiny_window8_256", 64, **TINY_SWIN),
        instance("swinv2_base_window8_256", 64, **TINY_SWIN),
    ),
    "SwinTransformerV2Cr": (
        instance("swinv2_cr_tiny_224", 64, **TINY_SWIN),
        instance("swinv2_cr_small_224", 64, **TINY_SWIN),
    ),
    "DaVit": (
        instance("davit_tiny", 64, depths=(2, 1, 3, 2), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2)),
        instance("davit_small", 64, depths=(1, 2, 2, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2)),
    ),
    "GlobalContextVit": (
        instance("gcvit_xxtiny", 224, embed_dim=16),
        instance("gcvit_xtiny", 224, embed_dim=16),
    ),
    "PyramidVisionTransformerV2": (
        instance("pvt_v2_b0", 64),
        instance("pvt_v2_b2_li", 64, embed_dims=(16, 32, 40, 64), num_heads=(1, 2, 5, 8)),
    ),
    "CSATv2": (instance("csatv2", 128), instance("csatv2_21m", 128)),
    "EfficientVitMsra": (instance("efficientvit_m0"), instance("efficientvit_m1")),
    "TinyVit": (instance("tiny_vit_5m_224"), instance("tiny_vit_11m_224")),
    "Nest": (
        instance("nest_tiny", 128),
        instance("nest_tiny_jx", 128),
    ),
    "Levit": (
        instance("levit_256d", embed_dim=(32, 48, 64), key_dim=16, num_heads=(2, 3, 4), depth=(2, 3, 2)),
        instance("levit_512", embed_dim=(32, 48, 64), key_dim=16, num_heads=(2, 3, 4), depth=(2, 3, 2)),
    ),
    "LevitDistilled": (instance("levit_128s"), instance("levit_128")),
    "MultiScaleVit": (
        instance("mvitv2_tiny", 64),
        instance("mvitv2_small_cls", 64),
    ),
    "PoolingVisionTransformer": (instance("pit_ti_224"), instance("pit_ti_distilled_224")),
    "Hiera": (
        instance("hiera_tiny_224", 224, embed_dim=16, num_heads=1),
        instance("hiera_base_abswin_256", 256, embed_dim=16, num_heads=1, stages=(2, 2, 3, 2)),
    ),
    "HieraDet": (instance("sam2_hiera_tiny", 128), instance("hieradet_small", 128)),
    "VisionTransformer": (
        instance("test_vit", 64),
        instance("vit_small_patch14_dinov2", 56, **TINY_VIT),
        instance("vit_base_patch16_siglip_224", 64, **TINY_VIT),
        instance("vit_medium_patch16_reg4_gap_256", 64, **TINY_VIT),
        instance("deit3_small_patch16_224", 64, **TINY_VIT),
        instance("vit_base_patch16_xp_224", 64, **TINY_VIT),
    ),
    "VisionTransformerDistilled": (
        instance("deit_tiny_distilled_patch16_224", 64, **TINY_VIT),
        instance("deit_small_distilled_patch16_224", 64, **TINY_VIT),
    ),
    "VisionTransformerRelPos": (
        instance("test_vit_relpos", 64, depth=4),
        instance("vit_srelpos_small_patch16_224", 64, **TINY_VIT),
    ),
    "VisionTransformerSAM": (
        instance("samvit_base_patch16_224", 64, **TINY_VIT, global_attn_indexes=(1, 3), window_size=2),
        instance("samvit_base_patch16", 64, **TINY_VIT, global_attn_indexes=(1, 3), window_size=2),
    ),
    "NaFlexVit": (
        instance("naflexvit_base_patch16_gap", 64, **TINY_VIT),
        instance("naflexvit_base_patch16_siglip", 64, **TINY_VIT),
    ),
    "Eva": (
        instance("eva02_tiny_patch14_224", 56, **TINY_VIT),
        instance("vit_small_patch16_dinov3", 64, **TINY_VIT),
        instance("vit_small_patch16_rope_224", 64, **TINY_VIT),
    ),
    "Beit": (
        instance("beit_base_patch16_224", 64, **TINY_VIT),
        instance(
            "beitv2_base_patch16_224", 64, **TINY_VIT, use_shared_rel_pos_bias=True, use_rel_pos_bias=False
        ),
    ),
    "Cait": (
        instance("cait_xxs24_224", 64, **TINY_VIT),
        instance("cait_xxs36_224", 64, **TINY_VIT),
    ),
    "Xcit": (
        instance("xcit_nano_12_p16_224", 64, **TINY_VIT),
        instance("xcit_tiny_12_p8_224", 64, **TINY_VIT),
    ),
    "MlpMixer": (
        instance("mixer_s32_224", 64),
        instance("gmlp_ti16_224", 64),
        instance("resmlp_12_224", 64),
    ),
    "CspNext": (instance("cspnext_s", 64), instance("cspnext_m", 64, widen_factor=0.25)),
    "LCNetV2": (instance("lcnetv2_small", 64), instance("lcnetv2_base", 64)),
    "MobileNetV5": (
        instance("mobilenetv5_base", 64, channel_multiplier=0.25),
        instance("mobilenetv5_base", 64, channel_multiplier=0.5),
    ),
    "EfficientViM": (
        instance("efficientvim_m1", 64, depths=(2, 3, 2), embed_dim=(16, 24, 32)),
        instance("efficientvim_m2", 64, depths=(2, 3, 2), embed_dim=(16, 24, 32)),
    ),
    "EfficientViMDistilled": (
        instance("efficientvim_m1_dist", 64, depths=(2, 3, 2), embed_dim=(16, 24, 32)),
        instance("efficientvim_m2_dist", 64, depths=(2, 3, 2), embed_dim=(16, 24, 32)),
    ),
    "VOLO": (instance("volo_d1_224", 64), instance("volo_d1_384", 64, mlp_ratio=1.0)),
    "TNT": (
        instance("tnt_s_patch16_224", 64, depth=4, embed_dim=32, num_heads_outer=2),
        instance("tnt_s_legacy_patch16_224", 64, depth=4, embed_dim=32, num_heads_outer=2),
    ),
    "Qwen3VitClassifier": (
        instance("qwen3_vit_88m", 64, **TINY_VIT),
        instance("qwen3_vit_88m_merge", 64, **TINY_VIT),
    ),
    "DeepseekVitClassifier": (
        instance("deepseek_vit_412m", 84, **TINY_VIT),
        instance("deepseek_vit_412m_align", 84, **TINY_VIT, out_features=48),
    ),
    "Gemma4VitClassifier": (
        instance("gemma4_vit_167m", 48, **TINY_VIT),
        instance("gemma4_vit_570m", 48, **TINY_VIT),
    ),
}

EXEMPLARS = {
    "ResNet",  # norms on shortcuts stay single
    "NormFreeNet",  # no norms
    "ConvNeXt",  # convolutions with LayerNorm
    "CspNext",  # blocks below a path
    "EfficientNet",  # norms at boundaries follow their neighbours
    "GhostNet",  # both
    "MobileNetV5",  # what stages hand on is collected
    "EfficientViM",  # stages hand on summaries
    "SwinTransformer",  # channels last
    "Levit",  # a transformer with BatchNorm
    "VOLO",  # a position is added between stages
    "VisionTransformer",  # virtual stages
    "VisionTransformerRelPos",  # blocks take a bias by position
    "Beit",  # so do these, in another way
    "Eva",  # blocks take rotary embeddings
    "Xcit",  # blocks take height and width
    "TNT",  # the state has two streams
    "Qwen3VitClassifier",  # a tower within a classifier
    "Gemma4VitClassifier",  # likewise, with arguments of its own
}
"""Families that stand for all in `make test`; chosen, one for each function that runs blocks in `families`
among them. The others are tried by `-m slow`."""
