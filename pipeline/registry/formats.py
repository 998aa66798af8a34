"""The files in which a depth, or all of them, leave the registry; each is read back before anybody gets it.

Shapes: B images, K classes.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import RequestError
from pipeline.networks.switched import profile_tensor
from pipeline.weights_file import write_weights

Run = Callable[[Tensor, Any], Tensor]
"""From normalised images, shape (B, channels, height, width), and a profile to logits, shape (B, K)."""

FormatName = Literal["safetensors", "torch", "pt2", "onnx"]


class Format(ABC):
    """One kind of file.

    Attributes:
        file_name: What the file is called.
        holds_code: Whether it runs without the network's code.
        packages: Of the extra `export` that it needs.
    """

    file_name: ClassVar[str]
    holds_code: ClassVar[bool]
    packages: ClassVar[tuple[str, ...]] = ()

    def require(self) -> None:
        """Raise RequestError if a package is missing that writes or reads this format."""
        for name in self.packages:
            if importlib.util.find_spec(name) is None:
                raise RequestError(
                    f"{self.file_name} is written and checked by {', '.join(self.packages)}, {name} cannot "
                    "be imported; pip install 'skipline[export]'"
                )

    @abstractmethod
    def write(self, network: Any, profile: Any | None, path: Path) -> None:  # noqa: ANN401
        """Write one depth of a network, or all if `profile` is None."""

    @abstractmethod
    def read(self, network: Any, profile: Any | None, path: Path) -> Run:  # noqa: ANN401
        """Return what runs a file that `write` wrote; `network` gives the shape of what it holds."""


class Weights(Format):
    """Tensors by name, for the code of the network."""

    holds_code = False

    def write(self, network: Any, profile: Any | None, path: Path) -> None:  # noqa: ANN401
        """Write the tensors of a depth's own module, or of the whole network."""
        self.save(_module(network, profile).state_dict(), path)

    def read(self, network: Any, profile: Any | None, path: Path) -> Run:  # noqa: ANN401
        """Load the tensors into a new network."""
        module = _module(network.description.build(), profile)
        module.load_state_dict(self.load(path), strict=True)
        module.eval()
        return lambda images, asked: module(images) if profile else module(images, asked)

    @abstractmethod
    def save(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Write tensors."""

    @abstractmethod
    def load(self, path: Path) -> Mapping[str, Tensor]:
        """Read tensors; nothing is unpickled."""


class Safetensors(Weights):
    """Tensors as safetensors."""

    file_name = "model.safetensors"

    def save(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Write tensors."""
        write_weights(weights, path)

    def load(self, path: Path) -> Mapping[str, Tensor]:
        """Read tensors."""
        tensors: Mapping[str, Tensor] = load_file(path)
        return tensors


class TorchWeights(Weights):
    """Tensors as torch writes them, for `torch.load(..., weights_only=True)`."""

    file_name = "model.pt"

    def save(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Write tensors."""
        torch.save({name: tensor.detach().cpu().clone() for name, tensor in weights.items()}, path)

    def load(self, path: Path) -> Mapping[str, Tensor]:
        """Read tensors."""
        tensors: Mapping[str, Tensor] = torch.load(path, weights_only=True)
        return tensors


class Program(Format):
    """A program with its weights; with all depths it takes the profile as `skips`."""

    holds_code = True

    def write(self, network: Any, profile: Any | None, path: Path) -> None:  # noqa: ANN401
        """Export by the version's own code, which knows its network."""
        export = importlib.import_module(f"{type(network).__module__.rpartition('.')[0]}.export")
        program = export.export_profile(network, profile) if profile else export.export_all_profiles(network)
        self.save(export, program, path)

    @abstractmethod
    def save(self, export: Any, program: Any, path: Path) -> None:  # noqa: ANN401
        """Write a program of the module `export`."""


class TorchProgram(Program):
    """What `torch.export.load` reads."""

    file_name = "model.pt2"

    def save(self, export: Any, program: Any, path: Path) -> None:  # noqa: ANN401, ARG002
        """Write a program."""
        torch.export.save(program, path)

    def read(self, network: Any, profile: Any | None, path: Path) -> Run:  # noqa: ANN401, ARG002
        """Load the program."""
        module = torch.export.load(path).module()
        return lambda images, asked: module(images) if profile else module(images, profile_tensor(asked))


class Onnx(Program):
    """What ONNX runtimes read."""

    file_name = "model.onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def save(self, export: Any, program: Any, path: Path) -> None:  # noqa: ANN401
        """Write a program."""
        export.write_onnx(program, path)

    def read(self, network: Any, profile: Any | None, path: Path) -> Run:  # noqa: ANN401, ARG002
        """Open a session of onnxruntime on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(images: Tensor, asked: Any) -> Tensor:  # noqa: ANN401
            inputs = {"images": images.numpy()}
            if not profile:
                inputs["skips"] = profile_tensor(asked).numpy()
            return torch.from_numpy(session.run(["logits"], inputs)[0])

        return run


FORMATS: Mapping[str, Format] = {
    "safetensors": Safetensors(),
    "torch": TorchWeights(),
    "pt2": TorchProgram(),
    "onnx": Onnx(),
}


def _module(network: Any, profile: Any | None) -> nn.Module:  # noqa: ANN401
    module: nn.Module = network.subnetwork(profile) if profile else network
    return module
