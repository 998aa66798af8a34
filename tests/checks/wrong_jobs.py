"""Job files whose keys and types are sound, and that would fail later, or not do what they say.

Each is what it changes in `JOB`, and what its message must say: the key, the value and the reason or way out.
"""

import copy

from pipeline.config import set_dotted

JOB = {
    "name": "tiny",
    "data": {"train": "builtin:digits", "image_size": 16},
    "backbone": {"name": "resnet18"},
    "training": {"epochs": 4, "batch_size": 64},
    "registry": {"model": "tiny"},
}
VIT = {"data.image_size": 32, "backbone.name": "vit_tiny_patch16_224"}
TEACHER = {"name": "resnet18", "weights": True}
SEARCH = {"epochs": 1, "trials": 2}


def changed(changes):
    """Return the job as plain data, with other values at dotted keys."""
    data = copy.deepcopy(JOB)
    for key, value in changes.items():
        set_dotted(data, key, value)
    return data


KWARGS, OPTIMIZER_KWARGS, TEACHER_KWARGS = (
    "backbone.kwargs",
    "training.optimizer_kwargs",
    "distillation.teacher.kwargs",
)
NETWORKS = {
    "a network without pooling": ({KWARGS: {"global_pool": ""}}, [KWARGS, "global_pool: ''", "leave it out"]),
    "a transformer that predicts every patch": (
        {**VIT, KWARGS: {"global_pool": ""}},
        [KWARGS, "global_pool: ''", "logits must have the shape (images, classes)"],
    ),
    "an argument that no class has": (
        {KWARGS: {"nonsense": 1}},
        [KWARGS, "nonsense: 1", "unexpected keyword"],
    ),
    "one wrong argument beside a right one": (
        {KWARGS: {"drop_rate": 0.1, "act_layer": "zzz"}},
        [KWARGS, "with act_layer: 'zzz' does not"],
    ),
    "two wrong arguments": (
        {KWARGS: {"norm_layer": "yyy", "act_layer": "zzz"}},
        ["with act_layer: 'zzz' does not", "with norm_layer: 'yyy' does not"],
    ),
    "fewer stages than the class runs": ({KWARGS: {"layers": [2, 2]}}, [KWARGS, "layers: [2, 2]", "layer3"]),
    "heads that do not divide the width": ({**VIT, KWARGS: {"num_heads": 5}}, [KWARGS, "num_heads: 5"]),
    "an image size of its own": ({**VIT, KWARGS: {"img_size": 64}}, [KWARGS, "img_size: 64"]),
    "classes": ({KWARGS: {"num_classes": 5}}, [KWARGS, "num_classes: 5", "data.train"]),
    "weights by timm's argument": (
        {KWARGS: {"pretrained": True}},
        ["pretrained: True", "backbone.pretrained"],
    ),
    "a checkpoint by timm's argument": ({KWARGS: {"checkpoint_path": "x"}}, ["checkpoint_path: 'x'"]),
    "a network without a head": ({KWARGS: {"features_only": True}}, [KWARGS, "features_only: True"]),
    "layers for export": ({KWARGS: {"scriptable": True}}, [KWARGS, "scriptable: True", "leave it out"]),
    "a device": ({KWARGS: {"device": "cpu"}}, [KWARGS, "device: 'cpu'", "training.use_gpu"]),
    "an argument without a value": ({KWARGS: {"drop_rate": None}}, [KWARGS, "drop_rate: None", "timm drops"]),
    "stochastic depth beyond 1": (
        {KWARGS: {"drop_path_rate": 1.5}},
        [KWARGS, "[0, 1)", "drop_path_rate: 1.5"],
    ),
    "one image a worker": (
        {"training.batch_size": 2, "training.workers": 2, "data.image_size": 32},
        ["training.batch_size", "two images at a time for resnet18, got 1"],
    ),
    "features of two streams": (
        {"backbone.name": "tnt_s_patch16_224", "distillation.features": 1.0, "data.image_size": 32},
        ["distillation.features", "got 1 for tnt_s_patch16_224"],
    ),
    "a teacher without pooling": (
        {"distillation.teacher": {**TEACHER, "kwargs": {"global_pool": ""}}},
        [TEACHER_KWARGS, "resnet18 with global_pool: ''"],
    ),
    "a teacher for other classes": (
        {"distillation.teacher": {**TEACHER, "kwargs": {"num_classes": 5}}},
        [TEACHER_KWARGS, "num_classes: 5"],
    ),
}
OPTIMISERS = {
    "one beta": (
        {"training.optimizer": "adamw", OPTIMIZER_KWARGS: {"betas": [0.9]}},
        [OPTIMIZER_KWARGS, "betas: [0.9]", "adamw takes betas, eps"],
    ),
    "an argument that no optimiser has": (
        {OPTIMIZER_KWARGS: {"nonsense": 1, "maximize": False}},
        [OPTIMIZER_KWARGS, "got nonsense: 1 (", "unexpected keyword"],
    ),
    "two implementations at once": (
        {"training.optimizer": "adamw", OPTIMIZER_KWARGS: {"fused": True, "foreach": True}},
        [OPTIMIZER_KWARGS, "cannot be `True` together"],
    ),
    "a rate of its own": ({OPTIMIZER_KWARGS: {"lr": 1.0}}, [OPTIMIZER_KWARGS, "write training.lr"]),
    "decay of norms by timm's name": (
        {OPTIMIZER_KWARGS: {"filter_bias_and_bn": False}},
        [OPTIMIZER_KWARGS, "write training.decay_all"],
    ),
    "betas that timm drops": (
        {OPTIMIZER_KWARGS: {"betas": [0.9, 0.99]}},
        ["betas has no effect with optimizer: sgd"],
    ),
    "a fallback that is none": (
        {"training.optimizer": "adamw", OPTIMIZER_KWARGS: {"fallback_list": ["head*"]}},
        ["fallback_list has no effect with optimizer: adamw"],
    ),
    "a part of layer decay": (
        {OPTIMIZER_KWARGS: {"layer_decay_min_scale": 0.1}},
        ["layer_decay_min_scale has no effect without training.layer_decay"],
    ),
    "Nesterov's rule without momentum": (
        {"training.momentum": 0.0},
        ["training.momentum", "got 0.0 for sgd", "Nesterov momentum requires a momentum"],
    ),
    "an optimiser that wants another backward pass": (
        {"training.optimizer": "adahessian"},
        ["training.optimizer", "adahessian does not"],
    ),
    "an optimiser of GPUs": (
        {"training.optimizer": "bnbadam"},
        ["training.optimizer", "write use_gpu: true"],
    ),
    "milestones behind the end": (
        {"training.schedule": "multistep", "training.milestones": [2, 4]},
        ["training.milestones", "got [2, 4] with epochs: 4"],
    ),
    "milestones that fall": (
        {"training.schedule": "multistep", "training.milestones": [3, 2]},
        ["training.milestones must rise", "got [3, 2]"],
    ),
    "steps longer than the training": (
        {"training.schedule": "step", "training.step_epochs": 4},
        ["training.step_epochs < epochs must hold", "got 4 and 4"],
    ),
    "a smallest rate above the peak": (
        {"training.min_lr": 0.5},
        ["training.min_lr <= lr must hold", "got 0.5 and 0.1"],
    ),
    "an infinite rate": ({"training.lr": float("inf")}, ["training.lr: input should be a finite number"]),
}
IMAGES = {
    "a policy that is none": (
        {"augmentation.policy": "rand-zzz"},
        ["augmentation.policy", "not 'zzz'", "got 'rand-zzz'"],
    ),
    "operations that are none": (
        {"augmentation.policy": "rand-m9-tzzz"},
        ["augmentation.policy", "not 'tzzz'"],
    ),
    "a section of another policy": (
        {"augmentation.policy": "3a-m9"},
        ["3a takes a number behind each of mstd"],
    ),
    "a number that timm cannot read": (
        {"augmentation.policy": "rand-m9.5"},
        ["augmentation.policy", "got 'rand-m9.5'", "invalid literal for int"],
    ),
    "a policy of nothing": ({"augmentation.policy": "rand-m9-n0"}, ["n must be above 0, got 'rand-m9-n0'"]),
    "a number twice": ({"augmentation.policy": "rand-m9-m3"}, ["m must stand once, got 'rand-m9-m3'"]),
    "more operations than there are": (
        {"augmentation.policy": "rand-n20-tweights"},
        ["augmentation.policy must vary images, got 'rand-n20-tweights'"],
    ),
    "colours varied by two": (
        {"augmentation.policy": "rand-m9-mstd0.5-inc1", "augmentation.color_jitter": 0.4},
        ["augmentation.color_jitter has no effect beside policy: rand-m9-mstd0.5-inc1"],
    ),
    "one class to compare": ({"distillation.top_k": 1}, ["distillation.top_k must be 2 or more", "got 1"]),
    "more classes than there are": (
        {"distillation.top_k": 10},
        ["below the number of classes, got 10 for 10"],
    ),
}
TRIALS = {
    "an optimiser of the space without the job's arguments": (
        {"search": {**SEARCH, "space": "optimizers"}, "training.optimizer": "adamw", "training.lr": 1.0e-3}
        | {"training.weight_decay": 0.05, OPTIMIZER_KWARGS: {"betas": [0.9, 0.99]}},
        ["search: space 'optimizers': training.optimizer", "'sgd' does not", "betas has no effect"],
    ),
    "images of a trial that are too small": (
        {"search": {**SEARCH, "space": "resnet", "image_size": 16}, "data.image_size": 64}
        | {"training.batch_size": 2, "training.workers": 2},
        ["search: search.image_size must suit the network, 16 does not", "training.batch_size"],
    ),
}
WRONG_JOBS = {**NETWORKS, **OPTIMISERS, **IMAGES, **TRIALS}
