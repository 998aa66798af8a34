"""A sweep drawn for a terminal of any size: how far it is, its trials, the best score so far, what failed."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pipeline.search.sweep import SweepStatus, TrialState, TrialStatus

TICKS = "▁▂▃▄▅▆▇█"
FRAME_ROWS = 8
"""What is drawn beside trials and failures, with a line for facts that scroll."""
MIN_TRIALS, MAX_TRIALS = 3, 20
"""Shown; chosen. A view that is higher than its terminal would be cut."""
MAX_FAILURES = 3
"""Told, the latest ones; chosen."""
MIN_BAR = 10
"""Columns; chosen."""
WIDE_COLUMNS = 120
"""From here on there is room for a curve of every trial; chosen."""
STYLES: "dict[TrialState, str]" = {"running": "cyan", "waiting": "dim", "failed": "red", "stopped": "dim"}
STATES: "tuple[TrialState, ...]" = ("running", "waiting", "finished", "stopped", "failed")


@dataclass(frozen=True)
class Size:
    """Of a terminal, in characters."""

    width: int
    height: int

    @property
    def is_wide(self) -> bool:
        """Whether there is room for more than the essential."""
        return self.width >= WIDE_COLUMNS


def render_sweep(status: "SweepStatus", *, size: Size, now_s: float) -> RenderableType:
    """Return what a terminal shows of a sweep.

    Args:
        status: Where it is.
        size: Of the terminal.
        now_s: In Unix time.
    """
    failed = [trial for trial in status.trials if trial.state == "failed"][-MAX_FAILURES:]
    num_rows = min(MAX_TRIALS, max(MIN_TRIALS, size.height - FRAME_ROWS - len(failed)))
    parts: list[RenderableType] = [
        _headline(status),
        _epochs(status, size, now_s),
        _trials(status, size, num_rows),
    ]
    if status.best_scores:
        parts.append(_best(status, size))
    parts += [_line(f"{trial.name} failed: {trial.cause}", "red") for trial in failed]
    return Group(*parts)


def _headline(status: "SweepStatus") -> Text:
    counts = status.counts
    told = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    usage = f" · {status.usage} in use" if status.usage else ""
    return _line(f"{status.job}: {', '.join(told) or 'none'} of {status.total} trials{usage}", "bold")


def _epochs(status: "SweepStatus", size: Size, now_s: float) -> Table:
    expected, left_s = status.epochs_done + status.epochs_left, status.left_s(now_s)
    parts = [
        f"{status.epochs_done} of about {math.ceil(expected)} epochs",
        f"{_duration(now_s - status.start_s)} gone",
        *([] if left_s is None else [f"about {_duration(left_s)} left"]),
    ]
    told = " · ".join(parts)
    width = max(MIN_BAR, min(size.width // 2, size.width - len(told) - 1))
    table = Table.grid(padding=(0, 1))
    table.add_row(
        ProgressBar(total=max(expected, 1), completed=status.epochs_done, width=width), _line(told, "")
    )
    return table


def _trials(status: "SweepStatus", size: Size, num_rows: int) -> Table:
    from pipeline.search.settings import describe_values, varied_keys

    shown = chosen_trials(status, num_rows)
    keys = varied_keys([trial.values for trial in status.trials])
    left_out = len(status.trials) - len(shown)
    table = Table(
        box=None,
        expand=True,
        pad_edge=False,
        caption=f"and {left_out} more" if left_out else None,
        caption_justify="left",
    )
    for name in ("trial", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("epochs", "score", "full", "base"):
        table.add_column(name, no_wrap=True, justify="right")
    if size.is_wide:
        table.add_column("score by epoch", no_wrap=True)
    table.add_column("settings that differ", no_wrap=True, overflow="ellipsis", ratio=1)
    for trial in shown:
        curve = [sparkline([epoch.score for epoch in trial.epochs], size.width // 8)] if size.is_wide else []
        values = {key: trial.values[key] for key in keys if key in trial.values}
        is_best = trial is status.best
        table.add_row(
            *_cells(trial, status.max_epochs, "best" if is_best and trial.is_over else trial.state),
            *curve,
            Text(describe_values(values)),
            style="bold green" if is_best else STYLES.get(trial.state, ""),
        )
    return table


def chosen_trials(status: "SweepStatus", limit: int) -> "list[TrialStatus]":
    """Return the trials that are shown: running ones first, then the best of the others, failed ones last.

    The best trial is always among them.
    """
    running = [trial for trial in status.trials if trial.state == "running"]
    others = [trial for trial in status.trials if trial.state != "running" and trial is not status.best]
    others.sort(key=_rank, reverse=True)
    best = [status.best] if status.best and status.best not in running[:limit] else []
    room = limit - len(best)
    return [*running[:room], *best, *others[: max(0, room - len(running))]]


def _rank(trial: "TrialStatus") -> tuple[bool, float]:
    return trial.state != "failed", trial.best.score if trial.best else -math.inf


def _cells(trial: "TrialStatus", max_epochs: int, state: str) -> list[str]:
    best = trial.best
    numbers = (best.score, best.full, best.base) if best else ()
    name = trial.name.removeprefix("trial ")
    filled = round(5 * min(1.0, len(trial.epochs) / max_epochs))
    epochs = f"{'■' * filled}{'□' * (5 - filled)} {len(trial.epochs)}/{max_epochs}"
    return [name, state, epochs, *([f"{number:.4f}" for number in numbers] or [""] * 3)]


def _best(status: "SweepStatus", size: Size) -> Text:
    scores, best = status.best_scores, status.best
    reached = f"full {best.best.full:.4f}  base {best.best.base:.4f}" if best and best.best else ""
    name = best.name if best else ""
    told = f"best score so far {scores[-1]:.4f} ({name}, {reached}) "
    return _line(told + sparkline(scores, size.width - len(told)), "green")


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as a line of blocks between their lowest and highest one, the last value last.

    Args:
        values: One after the other; what is not finite is left out.
        width: In characters; of more values, evenly spaced ones are drawn.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    count = min(width, len(finite))
    drawn = [finite[(index + 1) * len(finite) // count - 1] for index in range(count)]
    low, high = min(drawn), max(drawn)
    top = len(TICKS) - 1
    heights = [round((value - low) / (high - low) * top) if high > low else top for value in drawn]
    return "".join(TICKS[height] for height in heights)


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(max(seconds, 0.0))))
