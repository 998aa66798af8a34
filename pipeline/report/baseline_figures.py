"""Figures of the comparison with networks of the same depth that were trained alone."""

from typing import Any

import altair as alt

from pipeline.baselines.result import Baselines

from .figure import ALONE, FULL, ROW_HEIGHT, Figure, layered

_KINDS = {"alone": ALONE, "adaptive": FULL}


def gain_figure(baselines: Baselines) -> Figure:
    """Return what every training reached, and the mean of each kind."""
    rows = [
        {"network": f"{run.profile}, {run.kind}", "kind": run.kind, "seed": run.seed, "top-1": run.top1}
        for run in sorted(baselines.runs, key=lambda run: (run.profile == "base", run.kind == "adaptive"))
    ]
    x = alt.X("top-1:Q", axis=alt.Axis(format=".3~%"), scale=alt.Scale(zero=False, nice=False, padding=12))
    y = alt.Y("network:N", sort=None, title=None)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(_KINDS), range=list(_KINDS.values())))
    base = alt.Chart(alt.InlineData(values=rows))
    means = base.mark_tick(thickness=3, size=ROW_HEIGHT - 4).encode(
        x=alt.X("mean(top-1):Q", title="top-1"), y=y, color=colour
    )
    points = base.mark_point(filled=True, opacity=0.8, size=60).encode(
        x=x, y=y, color=colour, tooltip=[f"{name}:N" for name in rows[0]]
    )
    num_rows = len({row["network"] for row in rows})
    return Figure(
        key="baselines",
        title="Top-1 of every training",
        caption=(
            "Each point is one training with its own seed, at its best epoch; the ticks are means. Alone: a "
            "network of that depth, trained by labels only, with the same recipe and epochs."
        ),
        chart=layered(points, means).properties(width="container", height=ROW_HEIGHT * num_rows),
    )


def baseline_rows(baselines: Baselines) -> list[dict[str, Any]]:
    """Return mean and spread of the networks trained alone, by depth."""
    return [
        {
            "depth": one.profile,
            "trained": "alone",
            "top-1": round(one.alone.mean, 4),
            "low": one.alone.mean - (one.alone.std or 0.0),
            "high": one.alone.mean + (one.alone.std or 0.0),
            "seeds": one.alone.num,
        }
        for one in baselines.comparisons
    ]
