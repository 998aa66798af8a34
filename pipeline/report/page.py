"""Writes the report as one HTML file that needs no other: no script, style, font or image from elsewhere.

The charts are Vega-Lite's; its library travels in the page. A content security policy in the page makes sure
that nothing is ever fetched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources

import vl_convert
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pipeline.baselines.verdict import describe_baselines
from pipeline.registry.masking import mask_credentials

from .baseline_figures import gain_figure
from .content import ReportContent
from .figure import Figure
from .figures import depth_figures, trade_off_figures, training_figures
from .search_figures import search_figures

TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"


def all_figures(content: ReportContent) -> dict[str, list[Figure]]:
    """Return the figures of a report by the section that shows them."""
    return {
        "trade_off": list(trade_off_figures(content)),
        "training": list(training_figures(content)),
        "depths": list(depth_figures(content)),
        "baselines": [gain_figure(content.baselines)] if content.baselines else [],
        "search": list(search_figures(content.search)) if content.search else [],
    }


def render(content: ReportContent, figures: Mapping[str, Sequence[Figure]]) -> str:
    """Return a report as the text of an HTML file.

    Args:
        content: What it is about.
        figures: As `all_figures` returns them.
    """
    table = content.table
    columns, rows = _table(content)
    specs = {figure.key: figure.spec() for section in figures.values() for figure in section}
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(TEMPLATE).render(
        content=content,
        table=table,
        names=content.data.class_names,
        summary=summarise(content),
        columns=columns,
        rows=rows,
        figures=figures,
        gains=describe_baselines(content.baselines) if content.baselines else [],
        job_file=mask_credentials(content.job_file).rstrip(),
        data={"profiles": [asdict(result) for result in table.results], "figures": specs},
        css=Markup(_asset(STYLE)),
        js=Markup(_asset(SCRIPT)),
        charting_library=Markup(charting_library()),
    )


def summarise(content: ReportContent) -> str:
    """Return a job's outcome, and what its accuracies are counted on."""
    full, base = content.table.full, content.table.base
    return (
        f"One {content.job.backbone.name} at {len(content.table.results)} depths: top-1 {full.top1:.4f} with "
        f"nothing skipped, {base.top1:.4f} with everything skipped, at {base.macs / full.macs:.0%} of the "
        f"multiply-adds and {base.latency_p50_ms / full.latency_p50_ms:.0%} of the time. "
        f"Accuracies are those on {content.table.images}."
    )


@cache
def charting_library() -> str:
    """Return Vega-Embed with all that it needs, as a script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script.replace("</script", r"<\/script")


def _table(content: ReportContent) -> tuple[Sequence[str], list[list[str]]]:
    """Return the profile table as headings and text cells, with the agreement where it is known."""
    columns, rows = [name or "trained" for name in content.table.columns()], content.table.rows()
    if content.analysis is None:
        return columns, rows
    shares = [content.analysis.agreement[result.profile] for result in content.table.results]
    return [*columns, "as full"], [[*row, f"{share:.4f}"] for row, share in zip(rows, shares, strict=True)]


def _asset(name: str) -> str:
    return (resources.files("pipeline.report") / "assets" / name).read_text()
