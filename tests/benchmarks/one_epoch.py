"""One epoch of self-distillation on CIFAR-10 for one small network of each of five families.

Run:      python -m tests.benchmarks.one_epoch PATH/TO/cifar10/train.parquet
Expect:   both losses of every network below 2.303 (what knowing nothing costs in ten classes) after one
          epoch; some minutes a network on two CPU cores
Writes:   jobs and results to runs-one-epoch/, where the same command goes on; prints one table
"""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

FOLDER = Path("runs-one-epoch")
SGD = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4}
ADAMW = {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.05}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet": (
        {
            "name": "resnet18",
            "small_images": True,
            "kwargs": {"layers": [2, 2, 2, 2], "channels": [16, 32, 64, 128]},
        },
        SGD,
    ),
    "mobilenet-v2": ({"name": "mobilenetv2_050", "kwargs": {"output_stride": 8}}, SGD),
    "convnext": (
        {
            "name": "convnext_atto",
            "kwargs": {"patch_size": 2, "depths": [2, 2, 4, 2], "dims": [24, 48, 96, 192]},
        },
        ADAMW,
    ),
    "vit": (
        {
            "name": "vit_tiny_patch16_224",
            "kwargs": {"patch_size": 4, "depth": 8, "embed_dim": 96, "num_heads": 3},
        },
        ADAMW,
    ),
    "swin": (
        {
            "name": "swin_tiny_patch4_window7_224",
            "kwargs": {
                "patch_size": 2,
                "window_size": 4,
                "embed_dim": 24,
                "depths": [2, 2, 4, 2],
                "num_heads": [1, 2, 4, 8],
            },
        },
        ADAMW,
    ),
}


def job(name: str, data: Path) -> dict[str, Any]:
    """Return the job file of a case."""
    backbone, recipe = CASES[name]
    return {
        "name": name,
        "data": {"train": str(data.resolve()), "image_size": 32, "crop": "pad"},
        "backbone": backbone,
        "training": {"epochs": 1, "batch_size": 128, "workers": 2, "precision": "bf16", **recipe},
        "registry": {"model": name},
        "storage": str(FOLDER),
    }


def measure(data: Path) -> Iterator[list[str]]:
    """Train every case by `skipline train` and yield its row."""
    FOLDER.mkdir(exist_ok=True)
    for name in CASES:
        path = FOLDER / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job(name, data)))
        subprocess.run([sys.executable, "-m", "pipeline", "train", str(path)], check=True)
        client = MlflowClient(f"sqlite:///{(FOLDER / 'mlflow.db').resolve()}")
        experiment = client.get_experiment_by_name("skipline")
        (run,) = [
            run
            for run in client.search_runs([experiment.experiment_id])
            if name in run.info.run_name and "full/loss" in run.data.metrics
        ]
        metrics = run.data.metrics
        yield [name, *(f"{metrics[key]:.3f}" for key in ("full/loss", "base/loss", "full/top1", "base/top1"))]


def main() -> None:
    """Print the table."""
    table = Table(
        "network",
        "full loss",
        "base loss",
        "full top-1",
        "base top-1",
        title=f"validation after one epoch; knowing nothing costs {math.log(10):.3f}",
    )
    for row in measure(Path(sys.argv[1])):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
