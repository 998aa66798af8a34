"""Two ways of doing the same thing, timed in turns: the ratio is what counts on machines that are shared.

Every round runs one after the other, in an order that changes from round to round, so that drift of the
machine's speed falls on both. The spread of the rounds' ratios says how far the median can be trusted. CPU
seconds are counted beside: other work on the machine lengthens a round, but hardly the time on its cores.
"""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
JSON_FOLDER = ROOT / "build" / "benchmarks"

ROUNDS = 7
"""Chosen: a median of seven stands three rounds that another process has spoilt."""


@dataclass(frozen=True)
class Comparison:
    """What the rounds of one comparison brought.

    Attributes:
        name: What was compared.
        ours: Label of the first way.
        other: Label of the second way.
        ours_s: Seconds of the first way, one number a round.
        other_s: Seconds of the second way, likewise.
        ours_cpu_s: CPU seconds of this process, all its threads, likewise; empty where they mean nothing.
        other_cpu_s: Those of the second way.
    """

    name: str
    ours: str
    other: str
    ours_s: tuple[float, ...]
    other_s: tuple[float, ...]
    ours_cpu_s: tuple[float, ...] = ()
    other_cpu_s: tuple[float, ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times faster ours was, round by round; above 1 ours is faster."""
        return tuple(b / a for a, b in zip(self.ours_s, self.other_s, strict=True))

    @property
    def cpu_ratios(self) -> tuple[float, ...]:
        """How many times fewer CPU seconds ours took, round by round."""
        return tuple(b / a for a, b in zip(self.ours_cpu_s, self.other_cpu_s, strict=True))

    def row(self) -> list[str]:
        """Return the text cells of `COLUMNS`."""
        return [
            self.name,
            f"{self.ours}: {statistics.median(self.ours_s) * 1000:.1f}",
            f"{self.other}: {statistics.median(self.other_s) * 1000:.1f}",
            f"{statistics.median(self.ratios):.2f}",
            _spread(self.ratios),
            f"{statistics.median(self.cpu_ratios):.2f}" if self.cpu_ratios else "",
            _spread(self.cpu_ratios),
        ]


COLUMNS = ("comparison", "ours (ms)", "other (ms)", "times faster", "spread", "by CPU time", "spread")


def _spread(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""


def compare(
    name: str,
    ours: tuple[str, Callable[[], object]],
    other: tuple[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    warmup: int = 1,
) -> Comparison:
    """Time two ways in turns, and say at once what came out.

    Args:
        name: What is compared.
        ours: Label and call of the first way.
        other: Label and call of the second way.
        rounds: How often both are timed.
        warmup: Calls of each that are not timed.
    """
    for _ in range(warmup):
        ours[1]()
        other[1]()
    ours_times, other_times = [], []
    for number in range(rounds):
        pair = [(ours[1], ours_times), (other[1], other_times)]
        for call, times in pair if number % 2 == 0 else reversed(pair):
            times.append(_seconds(call))
    ours_s, ours_cpu_s = zip(*ours_times, strict=True)
    other_s, other_cpu_s = zip(*other_times, strict=True)
    comparison = Comparison(name, ours[0], other[0], ours_s, other_s, ours_cpu_s, other_cpu_s)
    Console(width=140).print(" | ".join(comparison.row()), style="dim", highlight=False)
    return comparison


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return how long a call takes, and how many CPU seconds this process spends on it."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


def publish(
    title: str,
    command: str,
    comparisons: Sequence[Comparison],
    notes: Sequence[str] = (),
    *,
    rows: Sequence[Sequence[str]] = (),
) -> None:
    """Print comparisons, write them to build/benchmarks as JSON and append them to RESULTS.md.

    Args:
        title: Of the section; the JSON file is named after it.
        command: What a reader types to repeat it.
        comparisons: One row each.
        notes: Further lines, such as measurements that are no comparison of times.
        rows: Of a table of other measurements, its headings first.
    """
    if comparisons:
        rows = [COLUMNS, *(comparison.row() for comparison in comparisons)]
    console = Console(width=140)
    if rows:
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    today, commit = datetime.now(UTC).date().isoformat(), current_commit()
    JSON_FOLDER.mkdir(parents=True, exist_ok=True)
    record = {
        "title": title,
        "date": today,
        "commit": commit,
        "command": command,
        "machine": machine(),
        "comparisons": [
            {**asdict(item), "ratios": item.ratios, "cpu_ratios": item.cpu_ratios} for item in comparisons
        ],
        "rows": list(rows),
        "notes": list(notes),
    }
    (JSON_FOLDER / f"{title.lower().replace(' ', '-')}.json").write_text(json.dumps(record, indent=1))
    with RESULTS.open("a") as results:
        results.write(render(title, today, commit, command, rows, notes))


def render(
    title: str,
    date: str,
    commit: str,
    command: str,
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """Return the section for RESULTS.md."""
    lines = ["", f"## {title} ({date})", "", f"`{command}` at {commit}, {machine()}."]
    if rows:
        head, *body = (f"| {' | '.join(row)} |" for row in rows)
        lines += ["", head, f"|{' --- |' * len(rows[0])}", *body]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return what the numbers were taken on, and whether its threads sleep or spin where they wait."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    policy = os.environ.get("OMP_WAIT_POLICY")
    waiting = f", OMP_WAIT_POLICY={policy}" if policy else ""
    gpu = f", one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{len(os.sched_getaffinity(0))} CPU cores ({model}){waiting}{gpu}"


def current_commit() -> str:
    """Return the short hash of the commit that is measured, marked where the tree differs from it.

    RESULTS.md may differ: it is what the benchmark before has written.
    """
    commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changes = _git("status", "--porcelain", "--", ":/", f":(exclude,top){RESULTS.relative_to(ROOT)}").stdout
    return f"{commit}-dirty" if changes else commit


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
