"""A server that follows the load against the same server fixed at `full`, under the same load.

A trained adaptive network is served by `skipline serve --target-p95-ms`. An open-loop load (Poisson, fixed
seed) rises from 0.3 to 3 times what `full` can bear, and falls back. The first time
requests leave the depth to the server, the second time each asks for `full`.

Run:      python -m tests.benchmarks.load_following
Expect:   p95 within the target at every load that base can bear, no error; fixed `full` exceeds it by far
Takes:    some ten minutes on two CPU cores, the half of it for training, which is kept in --storage
"""

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.evaluation.table import ProfileTable
from pipeline.following.costs import percentile
from pipeline.following.report import Mix
from pipeline.registry.store import embedded_uri
from pipeline.registry.versions import read_profile_table

from .open_loop import Ramp, Sent, throughput
from .paired import ROOT, publish

COMMAND = "python -m tests.benchmarks.load_following"
MODEL = "models:/load-following/1"
PORT = 5117
URL = f"http://127.0.0.1:{PORT}"
PLOT = ROOT / "docs" / "load_following.svg"
SEED = 0
LOW, HIGH = 0.3, 3.0
"""Of what `full` can bear."""
PHASES = (("before", 12.0), ("rising", 20.0), ("top", 16.0), ("falling", 20.0), ("after", 24.0))
WINDOW_S = 2.0
"""Of one point of the plot; chosen: a hundred requests or more at the top."""
IMAGES = 6
"""Of a request; chosen: inference, not HTTP, is most of what a request costs."""

JOB = {
    "name": "load-following",
    "data": {
        "train": "builtin:digits",
        "validation_fraction": 0.2,
        "image_size": 32,
        "crop": "none",
        "flip_probability": 0.0,
    },
    "backbone": {
        "name": "resnet50",
        "small_images": True,
        "kwargs": {"layers": [6, 12, 18, 6], "channels": [32, 64, 128, 256]},
    },
    "split": [1, 1, 1, 1],
    "training": {"epochs": 5, "batch_size": 32, "lr": 0.05, "workers": 2},
    "registry": {"model": "load-following"},
}


@dataclass(frozen=True)
class Bearing:
    """Requests a second that the server answers at a profile, and milliseconds of the way through HTTP."""

    full_per_s: float
    base_per_s: float
    path_ms: float


def train(storage: Path) -> None:
    """Train and register the network, unless that is done."""
    storage.mkdir(parents=True, exist_ok=True)
    job = storage / "job.yaml"
    job.write_text(yaml.safe_dump({**JOB, "storage": str(storage.absolute())}))
    subprocess.run([sys.executable, "-m", "pipeline", "run", str(job)], cwd=ROOT, check=True)


@contextmanager
def server(storage: Path, target_ms: float) -> Iterator[None]:
    """Serve the network until the block ends."""
    command = [sys.executable, "-m", "pipeline", "serve", MODEL, "--target-p95-ms", str(target_ms)]
    command += ["--port", str(PORT), "--storage", str(storage.absolute())]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        _wait_until_ready(process)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _get("/ping")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError("the server must answer before it can be measured, it did not start")


def _get(path: str) -> bytes:
    with urllib.request.urlopen(URL + path, timeout=30) as response:
        content: bytes = response.read()
    return content


def bodies(profile: str | None) -> list[str]:
    """Return requests of PNG images, at a profile or at the server's choice."""
    images = []
    for pixels in load_digits().images[: 50 * IMAGES]:
        file = io.BytesIO()
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(file, "PNG")
        images.append(base64.b64encode(file.getvalue()).decode())
    params = {"return_profile": True, **({"profile": profile} if profile else {})}
    return [
        json.dumps({"inputs": images[start : start + IMAGES], "params": params})
        for start in range(0, len(images), IMAGES)
    ]


def measure_bearing() -> Bearing:
    """Measure what the server can bear at `full` and at `base`, and what the way through HTTP takes."""
    per_s = {}
    for profile in ("full", "base"):
        encoded = [body.encode() for body in bodies(profile)]
        per_s[profile] = asyncio.run(throughput(f"{URL}/invocations", encoded, callers=8, seconds=8))
    times_ms = []
    for _ in range(100):
        start_s = time.perf_counter()
        _get("/ping")
        times_ms.append((time.perf_counter() - start_s) * 1000)
    return Bearing(per_s["full"], per_s["base"], statistics.median(times_ms))


def ramp(full_per_s: float) -> Ramp:
    """Return the load over time."""
    loads = (LOW, LOW, HIGH, HIGH, LOW, LOW)
    times = np.cumsum([0.0, *(seconds for _, seconds in PHASES)])
    return Ramp(tuple((float(at), load * full_per_s) for at, load in zip(times, loads, strict=True)))


def drive(storage: Path, load: Ramp, profile: str | None) -> list[Sent]:
    """Send the load from a process of its own, and return what came back in order of due times."""
    request, result = storage / "request.json", storage / "result.json"
    given = {"url": f"{URL}/invocations", "bodies": bodies(profile), "due_s": load.arrivals(SEED)}
    request.write_text(json.dumps(given))
    command = [sys.executable, "-m", "tests.benchmarks.open_loop", str(request), str(result)]
    subprocess.run(command, cwd=ROOT, check=True)
    return [Sent(**one) for one in json.loads(result.read_text())]


@dataclass(frozen=True)
class Summary:
    """What requests of a span of time met."""

    requests: int
    errors: int
    p50_ms: float
    p95_ms: float
    within: float
    mix: Mix

    @classmethod
    def of(cls, sent: Sequence[Sent], table: ProfileTable, target_ms: float) -> "Summary":
        """Summarise one request or more."""
        latencies_ms = [one.latency_ms for one in sent]
        profiles = [one.profile for one in sent if one.profile]
        counted = {profile: profiles.count(profile) for profile in set(profiles)}
        return cls(
            requests=len(sent),
            errors=sum(one.profile is None for one in sent),
            p50_ms=statistics.median(latencies_ms),
            p95_ms=percentile(latencies_ms, 95),
            within=sum(latency <= target_ms for latency in latencies_ms) / len(sent),
            mix=Mix.of(counted, {row.profile: row.top1 for row in table.results}),
        )

    def cells(self) -> list[str]:
        """Return text cells."""
        total = sum(self.mix.images.values())
        mix = ", ".join(f"{profile} {number / total:.0%}" for profile, number in self.mix.images.items())
        return [
            str(self.requests),
            str(self.errors),
            f"{self.p50_ms:.0f}",
            f"{self.p95_ms:.0f}",
            f"{self.within:.1%}",
            f"{self.mix.mean_depth or 0:.2f}",
            f"{self.mix.expected_accuracy or 0:.4f}",
            mix,
        ]


HEAD = ["server", "phase", "requests", "errors", "p50 ms", "p95 ms", "in time", "depth", "top-1", "mix"]


def rows_of(name: str, sent: Sequence[Sent], table: ProfileTable, target_ms: float) -> list[list[str]]:
    """Return one row a phase and one for all."""
    rows, start_s = [], 0.0
    for phase, seconds in PHASES:
        of_phase = [one for one in sent if start_s <= one.due_s < start_s + seconds]
        rows.append([name, phase, *Summary.of(of_phase, table, target_ms).cells()])
        start_s += seconds
    return [*rows, [name, "all", *Summary.of(sent, table, target_ms).cells()]]


def windows(sent: Sequence[Sent], table: ProfileTable, target_ms: float) -> list[tuple[float, Summary]]:
    """Return the middle of every window in seconds, and what the requests due in it met."""
    found = []
    for start_s in np.arange(0, sum(seconds for _, seconds in PHASES), WINDOW_S):
        inside = [one for one in sent if start_s <= one.due_s < start_s + WINDOW_S]
        if inside:
            found.append((float(start_s) + WINDOW_S / 2, Summary.of(inside, table, target_ms)))
    return found


def plot(
    runs: dict[str, list[Sent]], load: Ramp, bearing: Bearing, table: ProfileTable, target_ms: float
) -> None:
    """Draw load, p95, depth and expected accuracy over time, a column a server."""
    mpl.rcParams.update({"svg.hashsalt": "skipline", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
    figure, axes = plt.subplots(4, 2, figsize=(10, 9), sharex=True, sharey="row", layout="constrained")
    for column, (name, sent) in zip(axes.T, runs.items(), strict=True):
        _draw(column, windows(sent, table, target_ms), load, bearing, target_ms)
        column[0].set_title(name, fontsize=11)
        column[-1].set_xlabel("seconds, by the time a request was due")
    for axis, label in zip(
        axes[:, 0], ("requests / s", "p95 latency, ms", "mean depth", "expected top-1"), strict=True
    ):
        axis.set_ylabel(label)
    axes[1, 0].set_yscale("log")
    axes[2, 0].set_ylim(-0.05, 1.05)
    figure.savefig(PLOT, metadata={"Date": None})
    figure.savefig(ROOT / "build" / "load_following.png", dpi=80)


def _draw(
    column: Any,
    points: Sequence[tuple[float, Summary]],
    load: Ramp,
    bearing: Bearing,
    target_ms: float,
) -> None:
    times = [time_s for time_s, _ in points]
    rate, latency, depth, accuracy = column
    rate.plot(times, [summary.requests / WINDOW_S for _, summary in points], ".", color="tab:grey")
    rate.plot(*zip(*load.points, strict=True), color="black", label="load")
    rate.axhline(bearing.full_per_s, color="tab:red", ls=":", label="full can bear")
    rate.axhline(bearing.base_per_s, color="tab:green", ls=":", label="base can bear")
    rate.legend(loc="upper left", fontsize=8)
    latency.plot(times, [summary.p95_ms for _, summary in points], color="tab:blue", label="p95")
    latency.axhline(target_ms, color="tab:red", ls="--", label=f"target {target_ms:g} ms")
    latency.legend(loc="upper left", fontsize=8)
    depth.plot(times, [summary.mix.mean_depth for _, summary in points], color="tab:purple")
    accuracy.plot(times, [summary.mix.expected_accuracy for _, summary in points], color="tab:orange")
    beyond = [time_s for time_s in np.arange(0, load.end_s, 0.5) if load.rate(time_s) > bearing.base_per_s]
    if beyond:
        for axis in column:
            axis.axvspan(beyond[0], beyond[-1], color="tab:red", alpha=0.08)
        rate.text(beyond[0], 0, "no profile can bear this", fontsize=8, color="tab:red")


def main() -> None:
    """Train, serve, load twice, publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--storage", type=Path, default=Path("build/load_following"))
    parser.add_argument("--target-p95-ms", type=float, default=250.0)
    arguments = parser.parse_args()
    storage, target_ms = arguments.storage, arguments.target_p95_ms
    train(storage)
    table = read_profile_table(embedded_uri(storage), MODEL)
    runs, reports = {}, {}
    with server(storage, target_ms):
        bearing = measure_bearing()
        load = ramp(bearing.full_per_s)
        time.sleep(5)
        runs["follows the load"] = drive(storage, load, None)
        reports = json.loads(_get("/report"))
    with server(storage, target_ms):
        runs["fixed at full"] = drive(storage, load, "full")
    (ROOT / "build").mkdir(exist_ok=True)
    plot(runs, load, bearing, table, target_ms)
    rows = [HEAD]
    for name, sent in runs.items():
        rows += rows_of(name, sent, table, target_ms)
    notes = [
        f"Target {target_ms:g} ms. The server answers {bearing.full_per_s:.1f} requests a second at full and "
        f"{bearing.base_per_s:.1f} at base (8 callers); the load rises from {LOW:g} to {HIGH:g} times "
        f"the first, to {HIGH * bearing.full_per_s:.1f} a second, and is the same for both servers.",
        f"GET /ping through Ray Serve takes {bearing.path_ms:.1f} ms (median, alone).",
        f"In the server, without HTTP: p95 of the last minute {reports['p95_ms']:.0f} ms, "
        f"{reports['within_target']:.1%} of all answers within the target.",
        "Latency counts from the moment a request was due until its whole answer was there. "
        f"{IMAGES} images a request.",
        f"Top-1 is expected: that of the mix of profiles on {table.num_images} validation images; depth is "
        "the mean share of skippable stages that ran whole.",
    ]
    publish("Load-following depth", COMMAND, [], notes, rows=rows)


if __name__ == "__main__":
    main()
