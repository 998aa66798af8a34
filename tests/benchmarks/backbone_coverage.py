"""Converts every timm model on the meta device and writes down what became of it.

Run:      python -m tests.benchmarks.backbone_coverage
Expect:   1,196 of timm 1.0.31's 1,371 names supported, after ten minutes on two CPU cores
Writes:   pipeline/backbones.csv (what `skipline backbones` reads) and docs/backbones.md
"""

import multiprocessing
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from rich.progress import track

from pipeline.catalogue import FILE, CatalogueEntry, write_catalogue
from pipeline.survey import survey

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tests.benchmarks.backbone_coverage"


def survey_all(names: Sequence[str]) -> list[CatalogueEntry]:
    """Survey models in two processes, with progress."""
    with multiprocessing.get_context("spawn").Pool(2, _prepare) as pool:
        results = pool.imap_unordered(attempt, names, chunksize=8)
        return list(track(results, description="converting", total=len(names)))


def attempt(name: str) -> CatalogueEntry:
    """Survey a model; whatever breaks is its refusal."""
    try:
        return survey(name)
    except Exception as error:  # noqa: BLE001  one name must not end a run over all
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return CatalogueEntry(name, "unknown", reason, "", 0, 0, 0, 0, 0)


def _prepare() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def render(entries: Sequence[CatalogueEntry]) -> str:
    """Return the page for the docs."""
    supported = [entry for entry in entries if entry.is_supported]
    lines = [
        "# Which timm models become adaptive depth networks",
        "",
        f"Written by `{COMMAND}` with timm {timm.__version__}; not by hand.",
        "Every name was converted on the meta device, at its own image size:",
        f"**{len(supported)} of {len(entries)}** have at least one stage that can be skipped. "
        "`skipline backbones` lists them.",
        "",
        "## By family",
        "",
        "| timm class | supported | refused | smallest | largest |",
        "| --- | ---: | ---: | --- | --- |",
        *_family_rows(entries),
        "",
        "## Refused",
        "",
        "| reason | models |",
        "| --- | --- |",
        *_refusal_rows(entries),
        "",
    ]
    return "\n".join(lines)


def _family_rows(entries: Sequence[CatalogueEntry]) -> list[str]:
    families: dict[str, list[CatalogueEntry]] = defaultdict(list)
    for entry in entries:
        families[entry.family].append(entry)
    rows = []
    for family, members in sorted(families.items()):
        supported = sorted((entry.parameters, entry.name) for entry in members if entry.is_supported)
        if supported:
            ends = f"{supported[0][1]} | {supported[-1][1]}"
            rows.append(f"| {family} | {len(supported)} | {len(members) - len(supported)} | {ends} |")
    return rows


def _refusal_rows(entries: Sequence[CatalogueEntry]) -> list[str]:
    refused: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if not entry.is_supported:
            refused[entry.refusal].append(entry.name)
    return [
        f"| {reason} | {len(names)}: {', '.join(sorted(names))} |"
        for reason, names in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def main() -> None:
    """Write both files and print the totals."""
    entries = survey_all(timm.list_models())
    write_catalogue(entries, ROOT / "pipeline" / FILE)
    (ROOT / "docs" / "backbones.md").write_text(render(entries), encoding="utf-8")
    totals = Counter("supported" if entry.is_supported else "refused" for entry in entries)
    print(f"{totals['supported']} of {len(entries)} supported")  # noqa: T201


if __name__ == "__main__":
    main()
