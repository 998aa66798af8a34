"""Looks at what is installed."""

import importlib.metadata
import platform

from packaging.requirements import Requirement

from .findings import Problem

SHOWN = ("torch", "torchvision", "timm", "ray", "mlflow", "optuna")


def installed_versions() -> str:
    """Return the versions that matter; raises Problem where one is missing or not the required one."""
    missing = [name for name in SHOWN if version_of(name) is None]
    wrong = [str(needed) for needed in _requirements() if not _is_met(needed)]
    shown = ", ".join(f"{name} {version_of(name)}" for name in SHOWN if name not in missing)
    if missing or wrong:
        unmet = ", ".join(dict.fromkeys((*missing, *wrong)))
        raise Problem(f"not installed as required: {unmet}", "pip install --upgrade skipline")
    return f"Python {platform.python_version()}, {shown}"


def _requirements() -> list[Requirement]:
    """Return what the installed package needs; a source tree that is only on the path has not said so."""
    try:
        texts = importlib.metadata.requires("skipline") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [Requirement(text) for text in texts]
    return [needed for needed in found if needed.marker is None or needed.marker.evaluate({"extra": ""})]


def _is_met(needed: Requirement) -> bool:
    version = version_of(needed.name)
    return version is not None and needed.specifier.contains(version, prereleases=True)


def version_of(name: str) -> str | None:
    """Return what is installed of a package; None where nothing is."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
