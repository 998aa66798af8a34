"""What runs inside a registered model; MLflow executes a copy of this file where the model is loaded.

Self-contained: it knows MLflow, torch, safetensors and the package beside it, and nothing of the project
that wrote it. Nothing is unpickled, `sys.path` is left alone.

Shapes: B images, C channels, H height, W width, K classes.
"""

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow.models
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, PythonModel
from safetensors.torch import load_file
from torch import nn

_FORMAT_VERSION = 2


class AdaptiveDepthModel(PythonModel):  # type: ignore[misc]
    """One network with many depths: `predict(images, params={"profile": "base"})`.

    Attributes:
        network: The torch network, for users of tensors; takes normalised images.
        config: The package's `network.json`: class names, preprocessing, profiles.
        table: What every profile reaches and costs, as registered.
        device: Where it computes.
    """

    def load_context(self, context: Any) -> None:  # noqa: ANN401
        """Check and read the package.

        `model_config={"device": "cuda"}` at loading moves the network, `{"calibrate": True}` measures its
        latencies.
        """
        folder = Path(context.artifacts["package"])
        settings = context.model_config or {}
        _check_files(folder)
        self.config = _read_config(folder / "network.json")
        networks, tables, self._serving = _import_code(folder / "code")
        self.device = torch.device(settings.get("device", "cpu"))
        network = networks.NetworkDescription(**self.config["network"]).build()
        network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        self.network = network.eval().to(self.device)
        self.table = tables.ProfileTable.from_json((folder / "profiles.json").read_text(encoding="utf-8"))
        self._latencies = self._serving.Latencies(
            self.network, self.table, model_key=self.config["weights_sha256"]
        )
        self._read_images = self._serving.ImageReader(self.config["preprocessing"], network.input_shape)
        self._subnetworks: dict[str, nn.Module] = {}
        self._building = threading.Lock()
        if settings.get("calibrate"):
            self.calibrate()

    def calibrate(
        self,
        batch_size: int = 1,
        *,
        anew: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Any:  # noqa: ANN401
        """Measure all profiles on this machine, in seconds, so that `max_latency_ms` means this machine.

        A later call, or another process with the same weights, device and number of threads, finds the
        result. Without it `max_latency_ms` is about the machine of the registered table.

        Args:
            batch_size: Images of one call.
            anew: Measure also where that has been done.
            on_progress: Told how many profiles of how many have been measured.

        Returns:
            The profile table with the latencies of this machine.

        Raises:
            MlflowException: If there is no image in a call.
        """
        with _told_to_the_caller():
            return self._latencies.calibrate(batch_size, anew=anew, on_progress=on_progress)

    def current_table(self, batch_size: int = 1) -> Any:  # noqa: ANN401
        """Return the profile table that budgets go by now: calibrated for this machine, or as registered.

        Args:
            batch_size: Images of one call.
        """
        return self._latencies.table(batch_size)

    def predict(
        self,
        context: Any,  # noqa: ANN401, ARG002
        model_input: np.ndarray,  # Or any of those below; MLflow complains of a hint that says so.
        params: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Classify images at one depth; nothing is changed, so several threads may call it at once.

        Args:
            context: Not used.
            model_input: Floats in [0, 1], not normalised, of shape (B, C, H, W); or pixels of integers from
                0 to 255, shape (B, H, W, 3), of a grey network (B, H, W), there also uint16 from 0 to 65535;
                or a list of PNG or JPEG files as bytes or base64. Pixels and files may have any size.
            params: At most one of `profile` (`full`, the default, `base`, or letters such as `TTFF`),
                `max_latency_ms`, `max_macs` and `min_accuracy`; `return_profile` adds which one it was.

        Returns:
            Logits as float32, shape (B, K). With `return_profile` a dictionary of `logits`, `profile` and
            `latency`, which says where the latencies come from.

        Raises:
            MlflowException: If a parameter or the images do not fit, or no profile is within the budget.
        """
        call = self.read(model_input, self._given(params))
        profile = call.profile or str(self.network.parse_profile("full"))
        return call.answer(self.run(call.images_BCHW, profile), profile)

    def read(self, model_input: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Check a call and decode its images; the first half of `predict`, for servers that queue.

        Args:
            model_input: As for `predict`.
            params: All that the caller gave.

        Returns:
            A `Call`, whose `profile` is None where no parameter decides it.

        Raises:
            MlflowException: If a parameter or the images do not fit, or no profile is within the budget.
        """
        with _told_to_the_caller():
            wanted = self._serving.Wanted.read(params)
            images_BCHW = self._read_images(model_input).to(self.device)
            table = self.current_table(len(images_BCHW))
            chosen = self._serving.choose(table, wanted.budget).profile if wanted.budget else wanted.profile
            profile = None if chosen is None else str(self.network.parse_profile(chosen))
        return self._serving.Call(images_BCHW, profile, str(table.latency), wanted.returns_profile)

    def run(self, images_BCHW: torch.Tensor, profile: str) -> np.ndarray:
        """Return logits as float32, shape (B, K), of what `read` returned, at one depth."""
        with torch.inference_mode():
            logits_BK: np.ndarray = self._subnetwork(profile)(images_BCHW).float().cpu().numpy()
        return logits_BK

    def _given(self, params: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return all parameters that the caller gave.

        MLflow drops unknown ones with a warning before it calls `predict` (3.17), and a misspelt `profile`
        would run the whole network. What was given is still an argument of `PyFuncModel.predict`, unless
        that call is of another model which calls this one.
        """
        entry = inspect.unwrap(PyFuncModel.predict).__code__
        frame = inspect.currentframe()
        while frame is not None and frame.f_code is not entry:
            frame = frame.f_back
        given = params
        if frame is not None:
            with suppress(MlflowException):  # The other model may be of another kind.
                if frame.f_locals["self"].unwrap_python_model() is self:
                    given = frame.f_locals["params"]
        return given or {}

    def _subnetwork(self, profile: str) -> nn.Module:
        """Return a depth as a module of its own, which threads share; its weights are the network's."""
        with self._building:
            if profile not in self._subnetworks:
                self._subnetworks[profile] = self.network.subnetwork(profile).eval()
            return self._subnetworks[profile]


@contextmanager
def _told_to_the_caller() -> Iterator[None]:
    """Let a server answer with code 400 and the message, not with a stack trace."""
    try:
        yield
    except ValueError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error


def _check_files(folder: Path) -> None:
    """Refuse a package of which a file was cut short, exchanged or lost."""
    checksums: dict[str, str] = json.loads((folder / "checksums.json").read_text(encoding="utf-8"))
    for name, expected in checksums.items():
        try:
            with (folder / name).open("rb") as handle:
                found = hashlib.file_digest(handle, "sha256").hexdigest()
        except FileNotFoundError:
            found = "nothing"
        if found != expected:
            raise MlflowException(
                f"files must have the SHA-256 that was registered, {expected[:12]}... for {name}, got "
                f"{found[:12]}; download the model again"
            )


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config["format_version"] != _FORMAT_VERSION:
        raise MlflowException(
            f"this code reads packages of format {_FORMAT_VERSION}, got format {config['format_version']}; "
            "load the model with the code that it was registered with"
        )
    return config


def _import_code(folder: Path) -> tuple[ModuleType, ...]:
    """Import `networks`, `evaluation.table` and `serving` beside the weights, under a name of their own.

    Two loaded versions never share code, and a consumer's modules of the same name are neither used nor
    hidden. No bytecode is written: a local artifact store hands out its own folder, not a copy.
    """
    name = f"adaptive_depth_{uuid.uuid4().hex}"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise MlflowException(f"a package must hold its code, there is none in {folder.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        parts = ("networks", "evaluation.table", "serving")
        return tuple(importlib.import_module(f"{name}.{part}") for part in parts)
    finally:
        sys.dont_write_bytecode = writes_bytecode


if not __package__:  # only where MLflow executes the file by itself
    mlflow.models.set_model(AdaptiveDepthModel())
