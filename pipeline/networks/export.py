"""Static programs of a network for other runtimes: `torch.export` and ONNX.

A program holds one depth, or all of them with the profile as an input. Batches may have any size; images
have the network's. The weights are in the program, once.
"""

import importlib.util
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from .adaptive import AdaptiveDepthNetwork
from .profiles import DepthProfile
from .switched import SwitchedNetwork, profile_tensor

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


@torch.no_grad()
def export_profile(network: AdaptiveDepthNetwork, profile: str | DepthProfile) -> ExportedProgram:
    """Return one depth as a program.

    Args:
        network: In evaluation mode.
        profile: `full`, `base`, letters or a profile.

    Returns:
        A program from images, shape (B, channels, height, width), to logits, shape (B, K).

    Raises:
        ValueError: If the profile is not one of the network's, or the network is in training mode.
    """
    _require_evaluation(network)
    subnetwork = network.subnetwork(profile)
    images = _example_images(network)
    subnetwork(images)  # some of timm's attentions keep the bias of their first call: not that of the trace
    return _export(subnetwork, images)


@torch.no_grad()
def export_all_profiles(network: AdaptiveDepthNetwork) -> ExportedProgram:
    """Return all depths as one program.

    Args:
        network: In evaluation mode.

    Returns:
        A program from `images`, shape (B, channels, height, width), and `skips`, one truth value a letter,
        shape (N,) (see `profile_tensor`), to logits, shape (B, K).

    Raises:
        ValueError: If the network is in training mode.
    """
    _require_evaluation(network)
    switched = SwitchedNetwork(network).eval()
    images = _example_images(network)
    network.forward_profiles(images, network.profiles)  # the first call of all forms, as above
    return _export(switched, images, profile_tensor(network.extremes[0]))


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write a program of this module as an ONNX file.

    Its inputs are called `images` and, where it holds all profiles, `skips`; its output is called `logits`.
    Weights of more than 2 GB, the most that one ONNX file can hold, lie beside it in `path` + `.data`.

    Args:
        program: What `export_profile` or `export_all_profiles` returned.
        path: Of the file; one that exists is replaced.

    Raises:
        ImportError: If the extra `export` is not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"ONNX files are written by the packages onnx and onnxscript, {' and '.join(missing)} cannot be "
            "imported; pip install 'skipline[export]'"
        )
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    # Unoptimised: folding constants stores a transposed weight once for each branch that reads it. Runtimes
    # optimise what they load.
    written = torch.onnx.export(
        _with_attention_in_steps(program),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=["images", "skips"][: len(program.graph_signature.user_inputs)],
        output_names=["logits"],
    )
    model = cast(torch.onnx.ONNXProgram, written)
    # Every node carries a stack trace with paths of this machine, together larger than small networks.
    ClearMetadataAndDocStringPass()(model.model)
    model.save(path)


def _require_evaluation(network: AdaptiveDepthNetwork) -> None:
    if network.training:
        raise ValueError(
            f"programs are made of networks in evaluation mode, got {network.name} in training mode; "
            "call eval() on it"
        )


def _example_images(network: AdaptiveDepthNetwork) -> Tensor:
    """Return two images: a batch of one would be traced as a constant."""
    weight = next(network.parameters())
    return torch.zeros(2, *network.input_shape, device=weight.device, dtype=weight.dtype)


def _export(module: nn.Module, images: Tensor, *further: Tensor) -> ExportedProgram:
    inputs = (images, *(tensor.to(images.device) for tensor in further))
    batch_of_any_size = ({0: Dim("batch")}, *(None for _ in further))
    return torch.export.export(module, inputs, dynamic_shapes=batch_of_any_size)


def _with_attention_in_steps(program: ExportedProgram) -> ExportedProgram:
    """Return a program that ONNX can express: torch's exporter knows attention on four dimensions only."""
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    attentions = [node for graph in graphs for node in graph.nodes if node.target is ATTENTION]
    if all(node.meta["val"].ndim == 4 for node in attentions):
        return program
    decomposed: ExportedProgram = program.run_decompositions({ATTENTION: _attention_in_steps})
    return decomposed


def _attention_in_steps(*args: object, **kwargs: object) -> Tensor:
    attended: Tensor = torch.ops.aten._scaled_dot_product_attention_math.default(*args, **kwargs)[0]
    return attended
