"""Figures of a search: what its trials reached, with which settings, and which settings mattered."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from pipeline.search.result import SearchResult

from .figure import BASE, BETWEEN, FULL, RIVAL, ROW_HEIGHT, Figure, layered

SCORE = "score"
LOG_RATIO = 50.0
"""Values whose largest is so many times the smallest are spread by their logarithm; chosen."""

_OUTCOMES = {"finished": FULL, "stopped": BETWEEN, "failed": BASE}


def search_figures(search: SearchResult) -> Iterator[Figure]:
    """Yield the figures of a search."""
    yield trials_over_time(search)
    if any(trial.outcome != "failed" and trial.values for trial in search.trials):
        yield parallel_coordinates(search)
    if search.importance:
        yield importance(search)


def trials_over_time(search: SearchResult) -> Figure:
    """Return the score of every trial and the best so far."""
    best = 0.0
    rows = []
    for trial in search.trials:
        best = max(best, trial.score)
        rows.append(
            {
                "trial": trial.number + 1,
                SCORE: round(trial.score, 4),
                "best so far": round(best, 4),
                "outcome": trial.outcome,
                "epochs": trial.epochs,
            }
        )
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "trial:Q",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(nice=False, zero=False, padding=12),
        )
    )
    scale = alt.Scale(zero=False, nice=False, padding=12)
    line = base.mark_line(interpolate="step-after", color=RIVAL).encode(y=alt.Y("best so far:Q", scale=scale))
    points = base.mark_point(filled=True, opacity=1, size=70).encode(
        y=alt.Y(f"{SCORE}:Q", scale=scale, title=SCORE),
        color=alt.Color("outcome:N", scale=alt.Scale(domain=list(_OUTCOMES), range=list(_OUTCOMES.values()))),
        tooltip=[f"{name}:N" for name in rows[0]],
    )
    return Figure(
        key="trials",
        title="Trials over time",
        caption="The score of every trial; the line is the best so far. Trial 1 is the job's own settings.",
        chart=layered(line, points).properties(width="container", height=280),
    )


def parallel_coordinates(search: SearchResult) -> Figure:
    """Return the settings of every trial that did not fail, one line each."""
    trials = [trial for trial in search.trials if trial.outcome != "failed"]
    settings = [dict(_single(trial.values)) for trial in trials]
    names = dict.fromkeys(name for values in settings for name in values)
    columns = {name: [values.get(name) for values in settings] for name in names}
    columns[SCORE] = [round(trial.score, 4) for trial in trials]
    rows = [
        {
            "setting": name,
            "place": place,
            "value": _text(value),
            "trial": trial.number + 1,
            SCORE: trial.score,
        }
        for name, values in columns.items()
        for trial, value, place in zip(trials, values, places(values), strict=True)
        if place is not None
    ]
    ends = [row for row in rows if row["place"] in (0.0, 1.0)]
    x = alt.X("setting:N", sort=list(columns), title=None, axis=alt.Axis(labelAngle=-30))
    y = alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[-0.08, 1.08]))
    lines = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True, opacity=0.8)
        .encode(
            x=x,
            y=y,
            detail="trial:N",
            color=alt.Color(
                f"{SCORE}:Q",
                scale=alt.Scale(range=[BASE, FULL]),
                legend=alt.Legend(title=SCORE, type="gradient", format=".3f"),
            ),
            tooltip=["trial:N", "setting:N", "value:N", alt.Tooltip(f"{SCORE}:Q", format=".4f")],
        )
    )
    labels = (
        alt.Chart(alt.InlineData(values=list({(row["setting"], row["value"]): row for row in ends}.values())))
        .mark_text(fontSize=11, dy=alt.expr("datum.place === 0 ? 12 : -12"))
        .encode(x=x, y=y, text="value:N")
    )
    return Figure(
        key="settings",
        title="Settings of the trials",
        caption=(
            "One line a trial, coloured by its score; failed ones are left out. Every axis runs from its "
            "smallest value to its largest, by logarithm where these lie far apart."
        ),
        chart=layered(lines, labels).properties(width="container", height=320),
    )


def importance(search: SearchResult) -> Figure:
    """Return how much each setting mattered."""
    rows = [{"setting": name, "share": round(share, 4)} for name, share in search.importance.items()]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(color=FULL)
        .encode(
            x=alt.X("share:Q", axis=alt.Axis(format=".0%")),
            y=alt.Y("setting:N", sort=None, title=None),
            tooltip=["setting:N", "share:N"],
        )
    )
    return Figure(
        key="importance",
        title="What mattered",
        caption="Share of each setting in how scores differ (fANOVA).",
        chart=chart.properties(width="container", height=ROW_HEIGHT * len(rows)),
    )


def places(values: Sequence[Any]) -> list[float | None]:
    """Return where values lie on an axis from 0 to 1; None has no place, as have all that are the same one.

    Numbers lie by size, by logarithm where the largest is `LOG_RATIO` times the smallest; other values evenly
    in their order.
    """
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        is_log = bool(known) and min(known) > 0 and max(known) / min(known) >= LOG_RATIO
        numbers = {value: math.log(value) if is_log else float(value) for value in known}
    else:
        ordered = sorted({_text(value) for value in known})
        numbers = {_text(value): float(ordered.index(_text(value))) for value in known}
        values = [None if value is None else _text(value) for value in values]
    low, high = min(numbers.values(), default=0.0), max(numbers.values(), default=0.0)
    return [
        None if value is None else 0.5 if high == low else (numbers[value] - low) / (high - low)
        for value in values
    ]


def _single(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings by name, lists as a setting each of their elements."""
    for name, value in values.items():
        if isinstance(value, list | tuple):
            yield from ((f"{name} {number}", element) for number, element in enumerate(value, start=1))
        else:
            yield name, value


def _text(value: Any) -> str:  # noqa: ANN401
    return f"{value:.4g}" if isinstance(value, float) else str(value)
