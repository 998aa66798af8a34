"""Figures of the trained network: what its depths reach, how it learnt, what its blocks do."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import altair as alt

from pipeline.baselines.result import Baselines
from pipeline.evaluation.analysis import Analysis
from pipeline.evaluation.pareto import Point, pareto_front
from pipeline.evaluation.table import ProfileResult, ProfileTable
from pipeline.training.epochs import History

from .baseline_figures import baseline_rows
from .content import ReportContent
from .figure import ALONE, BASE, BETWEEN, FULL, RIVAL, ROW_HEIGHT, Figure, layered

MAX_CLASSES = 30
"""Of the figure of classes; chosen."""

Cost = Literal["macs", "latency"]

PICKED = "picked"
"""The chart's parameter that names the profile to point out."""

_PERCENT = alt.Axis(format=".3~%")


def trade_off_figures(content: ReportContent) -> Iterator[Figure]:
    """Yield what the depths reach and cost."""
    yield trade_off(content, "macs")
    yield trade_off(content, "latency")


def training_figures(content: ReportContent) -> Iterator[Figure]:
    """Yield how the network learnt."""
    yield accuracy_curves(content.history)
    yield loss_curves(content.history)


def depth_figures(content: ReportContent) -> Iterator[Figure]:
    """Yield how depths differ, as far as that was measured."""
    if content.analysis is not None:
        yield agreement(content.table, content.analysis)
        yield classes(content.data.class_names, content.analysis)
        yield block_changes(content.analysis)


def trade_off(content: ReportContent, cost: Cost) -> Figure:
    """Return accuracy against cost of every profile, beside the champion's."""
    table, rival = content.table, content.champion
    field, axis = ("MMACs", "million multiply-adds") if cost == "macs" else ("p50 ms", "milliseconds a call")
    rows = [_profile_row(table, result) for result in table.results]
    x = alt.X(f"{field}:Q", title=axis, scale=_close(20))
    y = alt.Y("top-1:Q", title="top-1", axis=_PERCENT, scale=_close(20))
    picked = alt.param(name=PICKED, value="")
    front = (
        alt.Chart(alt.InlineData(values=_front(table, cost)))
        .mark_line(interpolate="step-after", color=BETWEEN, strokeDash=[4, 3], opacity=0.8)
        .encode(x=x, y=y)
    )
    points = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=True, opacity=1)
        .encode(
            x=x,
            y=y,
            color=_depth_colours(),
            shape=alt.Shape(
                "depth:N", scale=alt.Scale(domain=list(_COLOURS), range=["circle", "square", "triangle-up"])
            ),
            size=alt.condition(f"datum.profile === {PICKED}", alt.value(320), alt.value(80)),
            tooltip=[f"{name}:N" for name in rows[0]],
        )
        .add_params(picked)
    )
    labels = (
        alt.Chart(alt.InlineData(values=[row for row in rows if row["depth"] != "between"]))
        .mark_text(dy=-17, fontSize=12)
        .encode(x=x, y=y, text="depth:N")
    )
    layers = [front, points, labels]
    if rival is not None:
        others = [
            {**_profile_row(rival.table, result), "version": rival.uri} for result in rival.table.results
        ]
        layers.append(
            alt.Chart(alt.InlineData(values=others))
            .mark_point(shape="diamond", color=RIVAL, size=70, opacity=1)
            .encode(x=x, y=y, tooltip=[f"{name}:N" for name in others[0]])
        )
    if content.baselines is not None:
        layers += alone(content.baselines, rows, x, y)
    return Figure(
        key=f"accuracy-against-{cost}",
        title=f"Accuracy against {'multiply-adds' if cost == 'macs' else 'latency'}",
        caption=(
            f"Every depth of the one network. Dashed: the Pareto front. {_conditions(table, cost)}"
            + (f" Hollow diamonds: the champion, {rival.uri}." if rival else "")
            + (" Crosses: networks trained alone, mean and spread over seeds." if content.baselines else "")
        ),
        chart=layered(*layers).properties(width="container", height=340),
    )


def alone(baselines: Baselines, rows: list[dict[str, Any]], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Return the networks that were trained alone, at the cost of the profiles of their depth."""
    costs = {row["depth"]: row for row in rows}
    data = alt.InlineData(values=[{**costs[row["depth"]], **row} for row in baseline_rows(baselines)])
    spread: alt.Chart = (
        alt.Chart(data).mark_rule(color=ALONE, strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q")
    )
    means: alt.Chart = (
        alt.Chart(data)
        .mark_point(shape="cross", color=ALONE, size=90, opacity=1)
        .encode(x=x, y=y, tooltip=["depth:N", "trained:N", "top-1:N", "seeds:N"])
    )
    return [spread, means]


def accuracy_curves(history: History) -> Figure:
    """Return what the extremes reached after every epoch."""
    rows = [
        {"epoch": report.epoch, "depth": depth, "top-1": report.metrics[f"{depth}/top1"]}
        for report in history
        for depth in ("full", "base")
    ]
    y = alt.Y("top-1:Q", title="top-1", axis=_PERCENT, scale=_close(12))
    return Figure(
        key="training-accuracy",
        title="Accuracy while training",
        caption="Of the whole network and of the one with everything skipped, on the validation images.",
        chart=_curves(rows, y, _depth_colours(("full", "base"))),
    )


def loss_curves(history: History) -> Figure:
    """Return the losses of every epoch."""
    names = {"train/loss": "training", "full/loss": "full", "base/loss": "base"}
    rows = [
        {"epoch": report.epoch, "loss of": name, "loss": report.metrics[metric]}
        for report in history
        for metric, name in names.items()
    ]
    colour = alt.Color("loss of:N", scale=alt.Scale(domain=list(names.values()), range=[BETWEEN, FULL, BASE]))
    return Figure(
        key="training-loss",
        title="Loss while training",
        caption=(
            "Training: the joint loss of all depths that learn, on varied images. full, base: cross-entropy "
            "on the validation images."
        ),
        chart=_curves(rows, alt.Y("loss:Q", title="nats", scale=_close(12)), colour),
    )


def agreement(table: ProfileTable, analysis: Analysis) -> Figure:
    """Return how often every profile answers what `full` does."""
    rows = [
        {**_profile_row(table, result), "agreement": analysis.agreement[result.profile]}
        for result in table.results
    ]
    picked = alt.param(name=PICKED, value="")
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=True, opacity=1)
        .encode(
            x=alt.X("MMACs:Q", title="million multiply-adds", scale=_close(20)),
            y=alt.Y("agreement:Q", axis=_PERCENT, scale=_close(20)),
            color=_depth_colours(),
            size=alt.condition(f"datum.profile === {PICKED}", alt.value(320), alt.value(80)),
            tooltip=["profile:N", "agreement:N", "top-1:N"],
        )
        .add_params(picked)
    )
    return Figure(
        key="agreement",
        title="Agreement with the whole network",
        caption="Share of the validation images that a profile takes for the same class as full does.",
        chart=chart.properties(width="container", height=260),
    )


def classes(names: tuple[str, ...], analysis: Analysis) -> Figure:
    """Return what the extremes reach for single classes: those where they differ most."""
    seen = [
        (name, entry) for name, entry in zip(names, analysis.classes, strict=True) if entry.num_images > 0
    ]
    seen.sort(key=lambda pair: -abs(pair[1].full - pair[1].base) / pair[1].num_images)
    rows = [
        {"class": name, "depth": depth, "accuracy": right / entry.num_images, "images": entry.num_images}
        for name, entry in seen[:MAX_CLASSES]
        for depth, right in (("full", entry.full), ("base", entry.base))
    ]
    left_out = len(seen) - MAX_CLASSES
    return Figure(
        key="classes",
        title="Accuracy of single classes",
        caption="Of full and base on the validation images, the classes first where they differ most"
        + (f"; {left_out} classes that differ less are left out." if left_out > 0 else "."),
        chart=_dumbbells(rows, "class", "accuracy", _depth_colours(("full", "base")), axis=_PERCENT),
    )


def block_changes(analysis: Analysis) -> Figure:
    """Return how much every block changes what flows through it, before training and after."""
    rows = [
        {
            "block": f"{change.block} {'(skippable)' if change.is_skippable else '(always runs)'}",
            "when": when,
            "change": value,
        }
        for change in analysis.blocks
        for when, value in (("before", change.before), ("after", change.after))
        if value is not None
    ]
    colour = alt.Color("when:N", scale=alt.Scale(domain=["before", "after"], range=[BETWEEN, FULL]))
    return Figure(
        key="block-changes",
        title="What every block changes",
        caption=(
            "‖F(h)‖ / ‖h‖ before and after training: the size of what a block adds to what it is given, "
            "mean over images, in the whole network. Small values in skippable blocks are why a network "
            "stands their loss. Blocks that change the "
            "shape have none."
        ),
        chart=_dumbbells(rows, "block", "change", colour, axis=alt.Axis(format=".2~f")),
    )


_COLOURS = {"full": FULL, "base": BASE, "between": BETWEEN}


def _depth_colours(depths: Iterable[str] = tuple(_COLOURS)) -> alt.Color:
    domain = list(depths)
    return alt.Color("depth:N", scale=alt.Scale(domain=domain, range=[_COLOURS[depth] for depth in domain]))


def _profile_row(table: ProfileTable, result: ProfileResult) -> dict[str, Any]:
    extremes = {table.full.profile: "full", table.base.profile: "base"}
    return {
        "profile": result.profile,
        "depth": extremes.get(result.profile, "between"),
        "top-1": round(result.top1, 4),
        "MMACs": round(result.macs / 1e6, 2),
        "p50 ms": round(result.latency_p50_ms, 3),
        "M parameters": round(result.parameters / 1e6, 3),
    }


def _front(table: ProfileTable, cost: Cost) -> list[dict[str, Any]]:
    """Return the rows of the profiles that no other one beats in accuracy and a cost."""
    costs = [result.macs if cost == "macs" else result.latency_p50_ms for result in table.results]
    points = [Point(value, result.top1) for value, result in zip(costs, table.results, strict=True)]
    is_on_front = pareto_front(points)
    return [
        _profile_row(table, result)
        for result, is_kept in zip(table.results, is_on_front, strict=True)
        if is_kept
    ]


def _conditions(table: ProfileTable, cost: Cost) -> str:
    if cost == "macs":
        return f"On {table.images}."
    return f"Median of one call on {table.latency}."


def _curves(rows: list[dict[str, Any]], y: alt.Y, colour: alt.Color) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            y=y,
            color=colour,
            tooltip=[f"{name}:N" for name in rows[0]],
        )
        .properties(width="container", height=260)
    )
    return chart


def _dumbbells(
    rows: list[dict[str, Any]], name: str, value: str, colour: alt.Color, *, axis: alt.Axis
) -> alt.LayerChart:
    """Return two points a row, joined by a line, the rows in their order."""
    y = alt.Y(f"{name}:N", sort=None, title=None)
    x = alt.X(f"{value}:Q", axis=axis, scale=_close(12))
    base = alt.Chart(alt.InlineData(values=rows))
    lines = base.mark_line(color=BETWEEN, opacity=0.6).encode(x=x, y=y, detail=f"{name}:N")
    points = base.mark_point(filled=True, opacity=1, size=70).encode(
        x=x, y=y, color=colour, tooltip=[f"{column}:N" for column in rows[0]]
    )
    num_rows = len({row[name] for row in rows})
    return layered(lines, points).properties(width="container", height=ROW_HEIGHT * num_rows)


def _close(padding: int) -> alt.Scale:
    """Return a scale of what the values cover, and some pixels around them."""
    return alt.Scale(zero=False, nice=False, padding=padding)
