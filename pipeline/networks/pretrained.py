"""What a network starts with where it does not start from nothing: timm's weights, or a checkpoint's.

All is compared before a network changes, so weights that do not fit change nothing.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import timm
import torch
from torch import Tensor

from .backbone import create_backbone
from .checkpoint_file import read_checkpoint, summary
from .misfit import Misfit, PretrainedError, is_counter
from .timm_loading import LoadedByTimm, load_as_timm

if TYPE_CHECKING:
    from .adaptive import AdaptiveDepthNetwork, NetworkDescription

Source = Literal[True] | str | Path
"""True for timm's own weights, or the path of a checkpoint."""

SMALL_STEM = "conv1.weight"
"""What a small-image stem has in a shape of its own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """All weights of a backbone before its first training step.

    Attributes:
        weights: By timm's names, in the shapes and types of the backbone.
        new: Names of those that the source lacks, or has for other classes or another stem.
    """

    weights: dict[str, Tensor]
    new: tuple[str, ...]


def initial_weights(description: "NetworkDescription", source: Source) -> InitialWeights:
    """Return what a network's backbone starts with.

    timm's own filters apply: they rename keys, resample position embeddings for another image size and adapt
    the first convolution to other channels. A head for another number of classes starts new, and so does a
    small-image stem; their values follow from torch's random state.

    Raises:
        PretrainedError: If the source cannot be had, or does not fit.
        ValueError: If the network cannot be built.
    """
    own: dict[str, Tensor] = create_backbone(description).state_dict()
    loaded = _fetch(description) if source is True else _filter(description, read_checkpoint(Path(source)))
    fitting = _fitting(own, loaded, description, source)
    new = tuple(name for name in own if name not in fitting and not is_counter(name))
    if new:
        log.info("%s: these start new: %s", _origin(description, source), ", ".join(new))
    weights = {name: fitting.get(name, start).detach().to(start.dtype) for name, start in own.items()}
    return InitialWeights(weights, new)


def check_source(description: "NetworkDescription", source: Source) -> None:
    """Check that a source fits, without fetching anything.

    Of timm's weights, the published architecture stands for the file that the hub has.

    Raises:
        PretrainedError: If the source cannot be had, as far as is known here, or does not fit.
        ValueError: If the network cannot be built.
    """
    with torch.device("meta"):
        own = create_backbone(description).state_dict()
    weights = _published_shapes(description) if source is True else read_checkpoint(Path(source))
    _fitting(own, _filter(description, weights), description, source)


def start_from(network: "AdaptiveDepthNetwork", weights: Mapping[str, Tensor]) -> None:
    """Give a network all weights of its backbone; skip-aware norms become copies of the norms they double.

    Args:
        network: Changed only if all weights fit.
        weights: As in `InitialWeights`.

    Raises:
        PretrainedError: If a weight is missing, has no place or has another shape.
    """
    misfit = Misfit.between(network.backbone.state_dict(), weights)
    if misfit:
        raise PretrainedError(misfit.explain("what was given", network.name))
    network.backbone.load_state_dict(weights)
    loaded = network.backbone.state_dict()
    network.skip_norms.load_state_dict({name: loaded[name] for name in network.skip_norms.state_dict()})
    network.reset_path_statistics()


def _fetch(description: "NetworkDescription") -> LoadedByTimm:
    location = _find_published(description)
    try:
        return load_as_timm(description, None)
    except Exception as error:
        raise PretrainedError(
            f"pretrained: true needs the weights at {location}, which cannot be loaded "
            f"({summary(error)}); mend the connection, or download the file elsewhere and give its path as "
            "pretrained"
        ) from error


def _find_published(description: "NetworkDescription") -> str:
    published = timm.get_pretrained_cfg(description.backbone)
    if not published.has_weights:
        raise PretrainedError(
            f"pretrained: true needs weights that timm publishes, it has none of {description.backbone}; "
            "give the path of a checkpoint as pretrained, or start without one"
        )
    hub = published.hf_hub_id
    return f"https://huggingface.co/{hub}" if hub else str(published.url)


def _published_shapes(description: "NetworkDescription") -> dict[str, Tensor]:
    _find_published(description)
    with torch.device("meta"):
        shapes: dict[str, Tensor] = timm.create_model(description.backbone).state_dict()
    return shapes


def _filter(description: "NetworkDescription", weights: Mapping[str, Tensor]) -> LoadedByTimm:
    try:
        return load_as_timm(description, weights)
    except Exception:  # a filter stumbles over another network's weights in any way
        log.info("timm cannot adapt these weights, they are taken as they are", exc_info=True)
        tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
        return LoadedByTimm(tensors, allows_more=False)


def _fitting(
    own: Mapping[str, Tensor], loaded: LoadedByTimm, description: "NetworkDescription", source: Source
) -> dict[str, Tensor]:
    """Return the loaded weights that a backbone takes; raises PretrainedError if it needs others."""
    given = {name: value for name, value in loaded.weights.items() if name in own or not loaded.allows_more}
    new = _new_heads(own, given, description) | _new_stem(own, given, description)
    fitting = {name: value for name, value in given.items() if name not in new}
    needed = {name: value for name, value in own.items() if name not in new}
    misfit = Misfit.between(needed, fitting)
    if misfit:
        changes = f" with {dict(description.kwargs)}" if description.kwargs else ""
        raise PretrainedError(
            misfit.explain(_origin(description, source), f"{description.backbone}{changes}")
        )
    return fitting


def _new_heads(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], description: "NetworkDescription"
) -> set[str]:
    """Return the weights of classifiers that were trained for other classes, or for none."""
    paths = timm.get_pretrained_cfg(description.backbone).classifier or ()
    new: set[str] = set()
    for path in (paths,) if isinstance(paths, str) else paths:
        classifier = {name for name in own if name.startswith(f"{path}.")}
        if classifier and all(_has_other_classes(given.get(name), own[name]) for name in classifier):
            # Without a classifier there may be no norm before it either (ConvNeXt's FCMAE).
            head = f"{path.partition('.')[0]}."
            new |= classifier | {name for name in own if name.startswith(head) and name not in given}
    return new


def _has_other_classes(given: Tensor | None, own: Tensor) -> bool:
    return given is None or (given.shape[1:] == own.shape[1:] and given.shape[:1] != own.shape[:1])


def _new_stem(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], description: "NetworkDescription"
) -> set[str]:
    """Return the weight of a small-image stem, unless the source has just that."""
    if not description.small_images or SMALL_STEM not in given:
        return set()
    there, here = given[SMALL_STEM].shape, own[SMALL_STEM].shape
    return {SMALL_STEM} if there != here and there[:2] == here[:2] else set()


def _origin(description: "NetworkDescription", source: Source) -> str:
    return f"timm's published {description.backbone}" if source is True else str(source)
