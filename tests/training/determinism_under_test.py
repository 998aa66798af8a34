"""One epoch of the tiny deterministic training in this process, without a cluster; run as a script."""

import sys
from pathlib import Path

import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from training_under_test import save_data, tiny_job

from pipeline.storage import StoragePath
from pipeline.training.plan import plan_training
from pipeline.training.worker import train_loop


def main(folder: Path) -> None:
    """Train; the checkpoint stays where workers write theirs for Ray to upload."""
    plan = plan_training(tiny_job(epochs=1, warmup_epochs=0), save_data(folder))
    config = {"plan": plan, "board": None, "run": StoragePath.local(folder / "run")}
    TorchTrainer(train_loop, train_loop_config=config, scaling_config=ScalingConfig(num_workers=0)).fit()
    sys.stdout.write(f"deterministic algorithms: {torch.are_deterministic_algorithms_enabled()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
