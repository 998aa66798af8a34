"""A sweep of many trials that train nothing: what driver, Ray, Optuna and MLflow cost themselves.

Every trial reports a made-up curve at once, through the driver, records, study and tracking of real ones.
Starting a process and importing torch in it outweighs all else, so that is measured by itself, with few
trials. For the others Ray Tune hands one process from trial to trial, which real ones do not allow. That
works for one trial at a time only: beside a second one Tune asks for a new process at every trial's end and
gives it up before it has begun, and processes pile up that still import torch (measured, Ray 2.60).

Run:      python -m tests.benchmarks.search_scaling
Expect:   growth no worse than linear in time, memory and bytes; a process costs fifty times all else
Takes:    seven minutes for the few with a process each, one for 100 and 300, four for 1,000 on two CPU cores
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from ray import tune

from pipeline.config import Job, parse_job
from pipeline.networks.profiles import StageSize
from pipeline.reporter import Silent
from pipeline.reporting import TrialLog
from pipeline.search import driver
from pipeline.search.trial import TrialSetup, tune_result
from pipeline.steps import opened
from pipeline.training.epochs import EpochReport

from .paired import publish
from .step_memory import memory_bytes

COMMAND = "python -m tests.benchmarks.search_scaling"
SIZES, FEW = (100, 300, 1000), 30
EPOCHS = 4
PROCESS = "process"
"""Metric of a made-up epoch: the id of the process that reported it."""
STAGES = tuple(StageSize(blocks) for blocks in (3, 4, 6, 3))


def simulated_trial(config: Mapping[str, Any], *, setup: TrialSetup) -> None:
    """Report a curve that is better, the nearer the learning rate is to 0.1."""
    record = setup.records.load(config["number"])
    quality = 1 / (1 + abs(record.values["training.lr"] - 0.1) * 10)
    history: tuple[EpochReport, ...] = ()
    for epoch in range(1, setup.search.epochs + 1):
        score = quality * epoch / setup.search.epochs
        metrics = {"full/top1": score, "base/top1": score, "score": score, "train/loss": 1.0, "epoch_s": 0.0}
        metrics[PROCESS] = float(os.getpid())
        history = (*history, EpochReport(epoch, metrics, time.time_ns() // 10**6))
        tune.report(tune_result(history))


def make_job(folder: Path, trials: int, *, workers: int) -> Job:
    """Return the job whose search is measured; where a trial takes all CPUs, one runs at a time."""
    return parse_job(
        {
            "name": "many",
            "data": {"train": "builtin:digits", "image_size": 32},
            "backbone": {"name": "resnet50"},
            "training": {"epochs": 10, "workers": workers},
            "search": {"space": "resnet", "trials": trials, "epochs": EPOCHS},
            "registry": {"model": "many"},
            "storage": str(folder),
        }
    )


def measure(trials: int, *, reuses_processes: bool) -> dict[str, float]:
    """Return what one sweep takes: seconds of the search, bytes of driver and database."""
    with tempfile.TemporaryDirectory() as name:
        job = make_job(Path(name), trials, workers=len(os.sched_getaffinity(0)) if reuses_processes else 1)
        settings = partial(tune.TuneConfig, reuse_actors=reuses_processes)
        with (
            opened(job, Silent()) as session,
            mock.patch.object(driver, "run_trial", simulated_trial),
            mock.patch.object(tune, "TuneConfig", settings),
        ):
            before = memory_bytes("VmRSS")
            start_s = time.perf_counter()
            result = driver.run_search(
                job,
                session.folder.data_plan,
                folder=session.folder.search,
                stages=STAGES,
                observers=[TrialLog(session.run, session.outbox, Silent(), trials=trials, epochs=EPOCHS)],
            )
            wall_s = time.perf_counter() - start_s
        if len(result.trials) != trials:
            raise RuntimeError(f"{trials} trials were asked for, {len(result.trials)} came")
        database = Path(name) / "mlflow.db"
        return {
            "wall_s": wall_s,
            "processes": len({trial.metrics[PROCESS] for trial in result.trials}),
            "driver_bytes": memory_bytes("VmHWM") - before,
            "database_bytes": database.stat().st_size,
        }


def describe(trials: int, found: Mapping[str, float]) -> str:
    """Return a line with what a sweep took."""
    mib, kib_a_trial = found["database_bytes"] / 2**20, found["database_bytes"] / trials / 1024
    driver_mib = found["driver_bytes"] / 2**20
    return (
        f"{trials} trials: {found['wall_s']:.0f} s ({found['wall_s'] / trials:.2f} s a trial) in "
        f"{found['processes']:.0f} processes, the driver {driver_mib:.0f} MiB above its start, MLflow's "
        f"database {mib:.1f} MiB ({kib_a_trial:.1f} KiB a trial)"
    )


def main() -> None:
    """Measure all sizes and publish them, or in a process of its own print one size's figures."""
    logging.disable(logging.WARNING)
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), reuses_processes=sys.argv[2:] == ["reuse"])))  # noqa: T201
        return
    notes = [f"Trials report {EPOCHS} made-up epochs each at once; ASHA and TPE."]
    for trials, way in ((FEW, "start"), *((size, "reuse") for size in SIZES)):
        command = [sys.executable, "-m", "tests.benchmarks.search_scaling", str(trials), way]
        output = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
        found = describe(trials, json.loads(output.splitlines()[-1]))
        notes.append(f"A process for every trial, one a core at a time: {found}" if way == "start" else found)
        print(notes[-1], flush=True)  # noqa: T201
    publish("A search of many trials", COMMAND, [], notes)


if __name__ == "__main__":
    main()
