"""Which arguments of timm's models a job may not give: something else decides them, or nothing reads them.

The others reach timm's model class, which refuses what it does not know: none of the 1,196 supported models
of timm 1.0.31 takes an unknown argument in silence.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import timm
from timm.models import build_model_with_cfg

ELSEWHERE = {
    "num_classes": "the classes are those of data.train",
    "pretrained": "write backbone.pretrained or distillation.teacher.weights",
    "checkpoint_path": "give the path as backbone.pretrained or distillation.teacher.weights",
    "pretrained_cfg": "write timm's tag behind the model's name, such as resnet50.a1_in1k",
    "cache_dir": "set HF_HOME where the job starts",
    "device": "training.use_gpu decides it",
    "dtype": "training.precision decides it",
}
"""What to write in place of an argument."""

FEATURES = ("features_only", "out_indices", "feature_cls", "pruned")
"""What timm's builder reads besides its own parameters; with them it returns another model."""

RATE = "drop"
"""In the names of all probabilities of timm's models, which end in `_rate`."""


def argument_problems(key: str, kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with arguments by their names and values alone; messages by argument.

    Args:
        key: Of the job file.
        kwargs: What is written there.
    """
    return dict(_problems(key, kwargs))


def _problems(key: str, kwargs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    taken = _taken()
    for name, value in kwargs.items():
        seen = f"got {name}: {value!r}"
        if name in taken:
            way_out = ELSEWHERE.get(name, "a job trains whole classifiers as their class builds them")
            yield (
                name,
                f"{key} are arguments of timm's model class, {seen}, which is none; leave it out: {way_out}",
            )
        elif value is None:
            yield name, f"{key} need values, {seen}, which timm drops; leave it out"
        elif name.endswith("_rate") and RATE in name and not _is_probability(value):
            yield name, f"{key}: a rate of dropping must be in [0, 1), {seen}; 0.1 is usual"


def _taken() -> set[str]:
    """Return the arguments that timm takes for itself on the way to the model's class, and the builder's."""
    signatures = (inspect.signature(function) for function in (timm.create_model, build_model_with_cfg))
    own = {
        name
        for signature in signatures
        for name, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    return own | set(FEATURES) | set(ELSEWHERE)


def _is_probability(value: Any) -> bool:  # noqa: ANN401
    return not isinstance(value, bool | int | float) or 0 <= value < 1
