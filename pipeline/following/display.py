"""What the terminal shows of a server that follows the load."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

INTERVAL_S = 3.0
"""Between two looks at the report."""

Report = Mapping[str, Any]


def watch(console: Console, report: Callable[[], Report]) -> None:
    """Show a server's report until Ctrl-C or SIGTERM, then a last time; quiet without a terminal."""
    latest = report()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                time.sleep(INTERVAL_S)
                latest = report()
                if console.is_terminal:
                    live.update(as_table(latest), refresh=True)
    except KeyboardInterrupt:
        console.print(as_table(latest))


def as_table(report: Report) -> Table:
    """Return a report as a table: totals in its title, depths since the start and of the last minute."""
    table = Table(
        title=_title(report), caption=_caption(report), title_justify="left", caption_justify="left"
    )
    table.add_column("answered")
    table.add_column("mix of profiles")
    for name in ("mean depth", "expected top-1"):
        table.add_column(name, justify="right")
    for name, mix in (("since start", report["since_start"]), ("last minute", report["last_minute"])):
        depth, accuracy = _number(mix["mean_depth"]), _number(mix["expected_accuracy"], 4)
        table.add_row(name, _mix(mix["images"]), depth, accuracy)
    return table


def _title(report: Report) -> str:
    return (
        f"{report['requests']} requests, {report['refused']} refused, {report['errors']} errors; "
        f"{report['queue_length']} waiting"
    )


def _caption(report: Report) -> str:
    within = report["within_target"]
    kept = "" if within is None else f", {within:.1%} of all within the target"
    return (
        f"last minute p50 {_number(report['p50_ms'], 1)} ms, p95 {_number(report['p95_ms'], 1)} ms in the "
        f"server; target {report['target_p95_ms']:g} ms{kept}\n"
        f"mean depth: 1 is full, 0 is base; top-1 on {report['counted_on']}"
    )


def _mix(images: Mapping[str, int]) -> str:
    total = sum(images.values())
    return ", ".join(f"{profile} {number / total:.0%}" for profile, number in images.items()) or "-"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
