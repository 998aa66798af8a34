"""A figure of the report: a chart, and what has to be said about it; and how all of them look."""

from dataclasses import dataclass
from typing import Any, cast

import altair
import vl_convert

Chart = altair.Chart | altair.LayerChart

FULL, BASE, BETWEEN, RIVAL, ALONE = "#3b82f6", "#d97706", "#808690", "#9061f9", "#16a34a"
"""Colours of depths; chosen: told apart by any eye, at least 3 : 1 against white and against near black."""

ROW_HEIGHT = 22
"""Of figures with a row for each of some names, in points; chosen."""

NUM_TICKS = 8
"""Wished for on horizontal axes, which are narrow on a phone; chosen."""

PNG_SCALE = 2.0
"""Pixels a point; chosen: sharp on a dense display."""

_PNG_WIDTH = 720
_TEXT = "currentColor"
"""The page's own, so that light, dark and paper need one chart."""


@dataclass(frozen=True)
class Figure:
    """One chart.

    Attributes:
        key: Letters and dashes; names its file.
        title: What it shows.
        caption: What to see in it and how it was made; also what a screen reader says.
        chart: As wide as there is room.
    """

    key: str
    title: str
    caption: str
    chart: Chart

    def spec(self) -> dict[str, Any]:
        """Return the chart in Vega-Lite, for a page."""
        return _styled(self, text=_TEXT, background="transparent").to_dict()

    def png(self) -> bytes:
        """Return the chart as a PNG file, dark on white."""
        chart = _styled(self, text="#1f2328", background="#ffffff").properties(width=_PNG_WIDTH)
        picture: bytes = vl_convert.vegalite_to_png(chart.to_dict(), scale=PNG_SCALE)
        return picture


def layered(*charts: Chart) -> altair.LayerChart:
    """Return charts drawn over each other."""
    return cast(altair.LayerChart, altair.layer(*charts))


def _styled(figure: Figure, *, text: str, background: str) -> Chart:
    lines = {"gridColor": text, "gridOpacity": 0.15, "domainColor": text, "tickColor": text}
    words = {"labelColor": text, "titleColor": text, "labelFontSize": 12, "titleFontSize": 12}
    styled = (
        figure.chart.properties(
            description=f"{figure.title}. {figure.caption}",
            autosize=altair.AutoSizeParams(type="fit-x", contains="padding"),
        )
        .configure(background=background, font="system-ui, sans-serif")
        .configure_axis(**lines, **words, titleFontWeight="normal", labelLimit=220, labelOverlap=True)
        .configure_axisX(tickCount=NUM_TICKS)
        .configure_legend(**words, title=None, orient="top")
        .configure_view(stroke=None)
        .configure_text(color=text)
    )
    return cast(Chart, styled)
