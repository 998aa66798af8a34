"""The profile table: what every depth of one network reaches and costs.

`evaluation` fills it, `registry` stores it with the model version, the command line prints it. Shipped inside
registered models.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from .choices import Choice, describe_images

if TYPE_CHECKING:
    from ..networks.cost import Latency

Weights = Literal["latest", "average"]
"""Those of the last step, or their moving average."""

Statistics = Literal["training", "paths"]
"""Of norms: those that training left, or taken anew for every path (see `calibration`)."""


@dataclass(frozen=True)
class ProfileResult:
    """What one depth profile reaches and costs.

    Attributes:
        profile: Letters, F = stage runs whole, T = its second sub-path is skipped.
        trained: Whether training saw this profile.
        top1: Share of images whose highest logit is the label, in [0, 1].
        top5: Share of images whose label is among the five highest; None with five classes or fewer.
        loss: Mean cross-entropy in nats.
        macs: Multiply-adds for one image.
        parameters: Number of parameters of the static sub-network.
        latency_p50_ms: Median time of one call.
        latency_p95_ms: 95th percentile of the time of one call.
        is_pareto: No other profile is at least as accurate for at most the same MACs and better in one.
    """

    profile: str
    trained: bool
    top1: float
    top5: float | None
    loss: float
    macs: int
    parameters: int
    latency_p50_ms: float
    latency_p95_ms: float
    is_pareto: bool


@dataclass(frozen=True)
class LatencyConditions:
    """Where and how the latencies of a table were measured; without it they mean nothing."""

    device: str
    threads: int
    batch_size: int
    precision: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {threads}, batch {self.batch_size}, {self.precision}"


@dataclass(frozen=True)
class ProfileTable:
    """All profiles of one network, `full` first and `base` last.

    Attributes:
        results: One entry a profile, in the order of `DepthProfile.enumerate`.
        num_images: How many validation images the accuracies were counted on.
        latency: The conditions of the latency columns.
        weights: Which weights of the training these are.
        statistics: What norms with running statistics normalise by.
        choices: What the validation images chose beside; None where that is not recorded, as in tables of
            earlier releases.
    """

    results: tuple[ProfileResult, ...]
    num_images: int
    latency: LatencyConditions
    weights: Weights = "latest"
    statistics: Statistics = "training"
    choices: tuple[Choice, ...] | None = None

    @property
    def full(self) -> ProfileResult:
        """The super-net's row."""
        return self.results[0]

    @property
    def base(self) -> ProfileResult:
        """The base-net's row."""
        return self.results[-1]

    def with_latencies(self, latencies: Mapping[str, "Latency"], conditions: LatencyConditions) -> Self:
        """Return the table with other latencies.

        Args:
            latencies: By profile.
            conditions: Where and how they were measured.

        Raises:
            KeyError: If a profile has none.
        """
        results = tuple(
            replace(
                row,
                latency_p50_ms=latencies[row.profile].p50_ms,
                latency_p95_ms=latencies[row.profile].p95_ms,
            )
            for row in self.results
        )
        return replace(self, results=results, latency=conditions)

    def to_json(self) -> str:
        """Return the table as JSON text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "ProfileTable":
        """Read what `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        choices = data.get("choices")
        return cls(
            results=tuple(ProfileResult(**row) for row in data["results"]),
            num_images=data["num_images"],
            latency=LatencyConditions(**data["latency"]),
            weights=data["weights"],
            statistics=data.get("statistics", "training"),
            choices=None if choices is None else tuple(choices),
        )

    def columns(self) -> Sequence[str]:
        """Return the headings of `rows`."""
        top5 = ["top-5"] if self.full.top5 is not None else []
        return [
            "profile",
            "",
            "top-1",
            *top5,
            "loss",
            "MMACs",
            "params (M)",
            "p50 ms",
            "p95 ms",
            "Pareto",
        ]

    def rows(self) -> list[list[str]]:
        """Return the table as text cells, one list a profile, for a terminal or for Markdown."""
        return [_cells(result) for result in self.results]

    def __str__(self) -> str:
        return f"{as_text(self.columns(), self.rows())}\n{self.conditions}"

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        return f"{as_html(self.columns(), self.rows())}<p>{html.escape(self.conditions)}</p>"

    def to_markdown(self) -> str:
        """Return the table as Markdown, with the conditions of its latencies below."""
        columns = self.columns()
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(row) for row in self.rows()]
        return "\n".join(f"| {line} |" for line in lines) + f"\n\n{self.conditions}."

    @property
    def images(self) -> str:
        """What the accuracies are counted on, and what these images chose, as text."""
        return describe_images(f"{self.num_images} validation images", self.choices)

    @property
    def remarks(self) -> str:
        """What else has to be known about the table, as text."""
        averaged = "weights are a moving average; " if self.weights == "average" else ""
        calibrated = "norm statistics taken anew for every path; " if self.statistics == "paths" else ""
        return f"{averaged}{calibrated}latency on {self.latency}"

    @property
    def conditions(self) -> str:
        """All that has to be known about the table, as text."""
        return f"top-1 on {self.images}; {self.remarks}"


def as_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as lines of aligned columns, the first two to the left."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (columns, *rows)
    )
    return "\n".join(lines)


def as_html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as an HTML table."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(result: ProfileResult) -> list[str]:
    top5 = [] if result.top5 is None else [f"{result.top5:.4f}"]
    return [
        result.profile,
        "trained" if result.trained else "",
        f"{result.top1:.4f}",
        *top5,
        f"{result.loss:.4f}",
        f"{result.macs / 1e6:.1f}",
        f"{result.parameters / 1e6:.2f}",
        f"{result.latency_p50_ms:.2f}",
        f"{result.latency_p95_ms:.2f}",
        "●" if result.is_pareto else "",
    ]
