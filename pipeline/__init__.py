"""Skipline: one training, 2^N depths, one registered model.

What a notebook needs is at hand here, imported when it is asked for:

    import pipeline

    result = pipeline.run("quickstart", {"training.epochs": 3})
    network = pipeline.AdaptiveDepthNetwork.from_timm("resnet18", num_classes=10)
    table = pipeline.evaluate_profiles(network, batches)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import evaluate, run, train, tune
    from pipeline.config import Job
    from pipeline.errors import JobError, RequestError
    from pipeline.evaluation.evaluate import evaluate_profiles
    from pipeline.evaluation.table import ProfileTable
    from pipeline.networks import AdaptiveDepthNetwork, DepthProfile

__all__ = [
    "AdaptiveDepthNetwork",
    "DepthProfile",
    "Job",
    "JobError",
    "ProfileTable",
    "RequestError",
    "evaluate",
    "evaluate_profiles",
    "run",
    "train",
    "tune",
]

_HOMES = {
    **dict.fromkeys(("run", "tune", "train", "evaluate"), "pipeline.api"),
    **dict.fromkeys(("AdaptiveDepthNetwork", "DepthProfile"), "pipeline.networks"),
    **dict.fromkeys(("JobError", "RequestError"), "pipeline.errors"),
    "Job": "pipeline.config",
    "ProfileTable": "pipeline.evaluation.table",
    "evaluate_profiles": "pipeline.evaluation.evaluate",
}
"""Where each name lives."""


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a name from where it lives; `import pipeline` alone takes no time."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
