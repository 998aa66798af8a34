"""`skipline serve --target-p95-ms`: checks the request, measures costs here, then starts Ray Serve.

Everything runs on this machine: costs hold where they were measured. The store is asked by this process
alone, which hands over a folder; its address, which may hold a password, reaches neither Ray nor a list of
processes.
"""

import importlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlflow.artifacts
import mlflow.pyfunc
import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from cluster.runtime import connected, is_embedded
from pipeline.errors import RequestError
from pipeline.registry.failures import brief
from pipeline.registry.store import connect_existing, current_store
from pipeline.registry.versions import require_version

from .costs import Costs, measure_costs
from .policy import pareto_profiles

APPLICATION = "skipline"


class Progress(Protocol):
    """Where measurements are reported."""

    def advance(self, what: str, done: float, total: float) -> None:
        """Show how far something is."""


@dataclass(frozen=True)
class Prepared:
    """A model that can be served: downloaded, loaded once, measured here."""

    folder: Path
    costs: Costs
    num_threads: int


def require_following(host: str, port: int) -> None:
    """Raise RequestError if Ray Serve is not installed, cannot run here, or cannot listen there."""
    try:
        importlib.import_module("ray.serve")
    except ImportError as error:
        raise RequestError(
            f"serving at the depth of the load needs Ray Serve, whose module {error.name} is not installed; "
            "pip install 'skipline[serve]'"
        ) from error
    if not is_embedded():
        raise RequestError(
            "serving at the depth of the load runs where its costs are measured, on this machine, but "
            "RAY_ADDRESS names a cluster; unset it"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RequestError(
                f"a server needs a free address, {host}:{port} is not ({error.strerror}); give another --port"
            ) from error


@contextmanager
def prepared(
    tracking_uri: str, model_uri: str, *, target_ms: float, progress: Progress
) -> Iterator[Prepared]:
    """Download a version and measure it; its files are there until the block ends.

    Args:
        tracking_uri: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        target_ms: What the 95th percentile is to keep.
        progress: Told how far it is.

    Raises:
        RequestError: If there is no such version, it cannot be loaded, or no profile can keep the target.
    """
    client = connect_existing(tracking_uri)
    num_threads = threads_for_inference()
    torch.set_num_threads(num_threads)
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder, model = _download(client, model_uri, temporary)
        costs = _measure(model, lambda done, total: progress.advance("measuring every depth", done, total))
        _require_reachable(costs, target_ms, model, num_threads)
        yield Prepared(folder, costs, num_threads)


@contextmanager
def serving(
    model: Prepared, *, target_ms: float, host: str, port: int
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Answer HTTP requests until the block ends; yields a function that returns the server's report."""
    from ray import serve

    from .deployment import LoadFollowingModel

    with connected():
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port},
            logging_config={"enable_access_log": False},
        )
        deployment: Any = LoadFollowingModel
        application = deployment.bind(model.folder, model.costs, target_ms, model.num_threads)
        try:
            handle = serve.run(application, name=APPLICATION, logging_config={"enable_access_log": False})
            yield lambda: handle.report.remote().result(timeout_s=30)
        finally:
            serve.shutdown()


def threads_for_inference() -> int:
    """Return torch's number of threads, but leave a core to HTTP where there is more than one."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(torch.get_num_threads(), cores - 1))


def _download(client: MlflowClient, model_uri: str, temporary: str) -> tuple[Path, Any]:
    version = require_version(client, model_uri)
    try:
        with current_store(client):
            folder = mlflow.artifacts.download_artifacts(artifact_uri=version.uri, dst_path=temporary)
        model = mlflow.pyfunc.load_model(folder).unwrap_python_model()
    except (MlflowException, OSError) as error:
        message = brief(error)
    else:
        if hasattr(model, "read"):
            return Path(folder), model
        message = "it was registered by an earlier Skipline, register it again"
    raise RequestError(f"{model_uri} must be able to predict, it refused: {message}")


def _measure(model: Any, on_progress: Callable[[int, int], None]) -> Costs:  # noqa: ANN401
    """Measure the profiles that the policy may choose, and `full`, which callers name."""
    macs = {row.profile: row.macs for row in model.table.results}
    profiles = list(dict.fromkeys([model.table.full.profile, *pareto_profiles(model.table)]))
    images_BCHW = torch.rand(1, *model.network.input_shape, device=model.device)

    def run(profile: str, num_images: int) -> None:
        model.run(images_BCHW.expand(num_images, -1, -1, -1).contiguous(), profile)

    return measure_costs(run, macs, profiles, on_progress)


def _require_reachable(costs: Costs, target_ms: float, model: Any, num_threads: int) -> None:  # noqa: ANN401
    fastest = min(costs.measured_ms, key=lambda profile: costs.batch_ms(profile, 1))
    cost_ms = costs.batch_ms(fastest, 1)
    if cost_ms > target_ms:
        threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
        raise RequestError(
            f"--target-p95-ms must be within reach without load, got {target_ms:g}; the fastest profile, "
            f"{fastest}, takes {cost_ms:.1f} ms (p95) on {model.device.type}, {threads}; raise it"
        )
