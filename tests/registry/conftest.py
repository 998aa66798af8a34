"""A small real store: one migrated SQLite file a session, copied per test; a fresh one costs seconds."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import torch
from mlflow.tracking import MlflowClient

from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.registry.origin import ImageSet, Origin
from pipeline.registry.register import RegisteredVersion, register_model
from pipeline.registry.store import connect, embedded_uri, ensure_experiment
from pipeline.registry.tracking import JobRun
from pipeline.storage import StoragePath

PREPROCESSING = {
    "image_size": 16,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
}
SETTINGS = {"seed": 0, "data": {"train": "images", "validation": None, "validation_fraction": 0.2}}
ORIGIN = Origin("job", SETTINGS, ImageSet(60, "training"), ImageSet(30, "validation"))


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("migrated")
    connect(embedded_uri(storage))
    with closing(sqlite3.connect(storage / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return storage / "mlflow.db"


@pytest.fixture
def storage(migrated_database: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    folder.mkdir()
    shutil.copyfile(migrated_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def client(storage: Path) -> MlflowClient:
    return connect(embedded_uri(storage))


@pytest.fixture
def experiment_id(client: MlflowClient, storage: Path) -> str:
    return ensure_experiment(client, "tests", artifact_root=StoragePath.local(storage) / "mlflow-artifacts")


@pytest.fixture
def run(client: MlflowClient, experiment_id: str) -> JobRun:
    return JobRun.open(client, experiment_id, name="job", key="job-1", params={}, tags={})


@pytest.fixture(scope="session")
def network() -> AdaptiveDepthNetwork:
    return tiny_network()


def tiny_network() -> AdaptiveDepthNetwork:
    torch.manual_seed(0)
    network = AdaptiveDepthNetwork.from_timm(
        "resnet18",
        num_classes=3,
        small_images=True,
        image_size=16,
        channels=[8, 8, 8, 8],
        zero_init_last=False,
    )
    with torch.no_grad():  # statistics and norms that differ, as after training
        for tensor in network.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return network.eval()


@pytest.fixture(scope="session")
def preprocessing() -> dict:
    return PREPROCESSING


@pytest.fixture(scope="session")
def origin() -> Origin:
    return ORIGIN


@pytest.fixture
def register(client, run, network, preprocessing, table, origin):
    """Registers the tiny network as a version of `net`, but for what a call changes."""

    def call(**changes) -> RegisteredVersion:
        arguments = {
            "name": "net",
            "key": "key-1",
            "network": network,
            "preprocessing": preprocessing,
            "class_names": ["a", "b", "c"],
            "table": table,
            "origin": origin,
        }
        return register_model(client, run, **{**arguments, **changes})

    return call


@pytest.fixture(scope="session")
def table() -> ProfileTable:
    return table_of(4)


@pytest.fixture(scope="session")
def long_table() -> ProfileTable:
    return table_of(8)


def table_of(num_stages: int) -> ProfileTable:
    first = ProfileResult("", False, 1 / 3, None, 1.2345678, 1_234_567, 76_543, 1.5, 2.5, is_pareto=False)
    results = tuple(
        replace(first, profile=str(profile), trained=profile.is_extreme, top1=1 / (3 + index))
        for index, profile in enumerate(DepthProfile.enumerate(num_stages))
    )
    return ProfileTable(results, num_images=30, latency=LatencyConditions("cpu", 2, 1, "fp32"))


@pytest.fixture
def skipline(storage, invoke):
    """Runs a verb on the registry; returns exit code, output and errors."""

    def run(*arguments, at=("--storage", str(storage))):
        ended = invoke(*arguments, *at)
        return ended.returncode, ended.stdout, ended.stderr

    return run


@pytest.fixture
def answer(skipline):
    """Runs a verb with --json; returns its answer."""

    def run(*arguments, **options):
        code, printed, _ = skipline(*arguments, "--json", **options)
        assert code == 0
        return json.loads(printed)

    return run
