"""What runs inside a registered model; MLflow executes a copy of this file where the model is loaded.

Self-contained: it knows MLflow, torch, safetensors and the package beside it, and nothing of the project
that wrote it. Nothing is unpickled, `sys.path` is left alone.

Shapes: B images, C channels, H height, W width, K classes.
"""

import hashlib
import importlib.util
import json
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow.models
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from safetensors.torch import load_file

_FORMAT_VERSION = 1


class AdaptiveDepthModel(PythonModel):  # type: ignore[misc]
    """One network with many depths: `predict(images, params={"profile": "base"})`.

    Attributes:
        network: The torch network, for users of tensors; takes normalised images.
        config: The package's `network.json`: class names, preprocessing, profiles.
    """

    def load_context(self, context: Any) -> None:  # noqa: ANN401
        """Build the network and read its weights; `model_config={"device": "cuda"}` at loading moves it."""
        folder = Path(context.artifacts["package"])
        self.config = _read_config(folder / "network.json")
        _check_weights(folder / "model.safetensors", self.config["weights_sha256"])
        networks = _import_networks(folder / "networks")
        self.device = torch.device((context.model_config or {}).get("device", "cpu"))
        network = networks.NetworkDescription(**self.config["network"]).build()
        network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        self.network = network.eval().to(self.device)
        self._mean = self._per_channel("mean")
        self._std = self._per_channel("std")

    def predict(
        self,
        context: Any,  # noqa: ANN401, ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Classify images at one depth; nothing is changed, so several threads may call it at once.

        Args:
            context: Not used.
            model_input: Images as float32 in [0, 1], not normalised, shape (B, C, H, W).
            params: `profile` is `full` (default), `base` or letters such as `TTFF`.

        Returns:
            Logits as float32, shape (B, K).

        Raises:
            MlflowException: If the profile or the images do not fit.
        """
        profile = self._profile((params or {}).get("profile") or "full")
        images_BCHW = torch.tensor(self._checked(model_input), device=self.device)
        with torch.inference_mode():
            logits_BK = self.network((images_BCHW - self._mean) / self._std, profile)
        result: np.ndarray = logits_BK.float().cpu().numpy()
        return result

    def _profile(self, text: str) -> Any:  # noqa: ANN401
        try:
            return self.network.parse_profile(text)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _checked(self, images_BCHW: np.ndarray) -> np.ndarray:
        shape = tuple(self.network.input_shape)
        if images_BCHW.ndim != 4 or images_BCHW.shape[1:] != shape:
            raise MlflowException.invalid_parameter_value(
                f"images have the shape (any number, {', '.join(map(str, shape))}), got "
                f"{images_BCHW.shape}; resize them and put the channels first"
            )
        if images_BCHW.size and not (images_BCHW.min() >= 0 and images_BCHW.max() <= 1):
            raise MlflowException.invalid_parameter_value(
                f"images have values from 0 to 1, got {images_BCHW.min():g} to {images_BCHW.max():g}; "
                "divide bytes by 255 and leave the normalisation to the model"
            )
        return images_BCHW.astype(np.float32, copy=False)

    def _per_channel(self, name: str) -> torch.Tensor:
        return torch.tensor(self.config["preprocessing"][name], device=self.device).view(1, -1, 1, 1)


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config["format_version"] != _FORMAT_VERSION:
        raise MlflowException(
            f"this code reads packages of format {_FORMAT_VERSION}, got format {config['format_version']}; "
            "load the model with the code that it was registered with"
        )
    return config


def _check_weights(path: Path, expected: str) -> None:
    """Refuse a file that was cut short or exchanged."""
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != expected:
        raise MlflowException(
            f"weights must have the SHA-256 that was registered, {expected[:12]}..., got {found[:12]}... in "
            f"{path.name}; download the model again"
        )


def _import_networks(folder: Path) -> ModuleType:
    """Import the networks package beside the weights, under a name of its own.

    Two loaded versions never share code, and a consumer's modules of the same name are neither used nor
    hidden. No bytecode is written: a local artifact store hands out its own folder, not a copy.
    """
    name = f"adaptive_depth_networks_{uuid.uuid4().hex}"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise MlflowException(f"a package must hold its networks' code, there is none in {folder.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


if not __package__:  # only where MLflow executes the file by itself
    mlflow.models.set_model(AdaptiveDepthModel())
