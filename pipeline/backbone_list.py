"""What `skipline backbones` prints: rows of text cells from the catalogue."""

import difflib
from collections import Counter, defaultdict
from dataclasses import dataclass

from pipeline.errors import RequestError

from .catalogue import Catalogue, CatalogueEntry

REASON = "reason"
"""The column whose cells are sentences."""


@dataclass(frozen=True)
class BackboneTable:
    """A table for a terminal."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    caption: str = ""


def list_backbones(catalogue: Catalogue, pattern: str | None, *, refused: bool) -> BackboneTable:
    """Return the families, the models that a pattern means, or the refused ones with their reasons.

    Raises:
        RequestError: If the pattern means no such model.
    """
    if refused:
        return (
            _reasons(catalogue) if pattern is None else _refused(_matches(catalogue, pattern, False), pattern)
        )
    return _families(catalogue) if pattern is None else _models(_matches(catalogue, pattern, True), pattern)


def select_backbones(catalogue: Catalogue, pattern: str | None, *, refused: bool) -> list[CatalogueEntry]:
    """Return the models that a pattern means, or all that are supported or refused.

    Raises:
        RequestError: If the pattern means no such model.
    """
    return _matches(catalogue, "*" if pattern is None else pattern, not refused)


def _matches(catalogue: Catalogue, pattern: str, is_supported: bool) -> list[CatalogueEntry]:
    found = catalogue.find(pattern)
    kept = [entry for entry in found if entry.is_supported is is_supported]
    if kept:
        return kept
    if found:
        other = "refused; `--refused` shows why" if is_supported else "supported; leave out --refused"
        raise RequestError(f"{pattern!r} means {len(found)} models of timm, all of them {other}")
    near = difflib.get_close_matches(pattern, catalogue.entries, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`skipline backbones` lists the families"
    raise RequestError(f"a pattern must match a name or class of timm, got {pattern!r}; {hint}")


def _families(catalogue: Catalogue) -> BackboneTable:
    members: dict[str, list[CatalogueEntry]] = defaultdict(list)
    for entry in catalogue.entries.values():
        if entry.is_supported:
            members[entry.family].append(entry)
    rows = []
    for family, entries in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        smallest, *_, largest = sorted(entries * 2, key=lambda entry: entry.parameters)
        rows.append([family, smallest.name, largest.name, str(len(entries))])
    return BackboneTable(
        f"{sum(map(len, members.values()))} of timm's {len(catalogue.entries)} models are supported",
        ("family", "smallest", "largest", "models"),
        rows,
        "`skipline backbones 'convnext*'` lists models, `skipline inspect NAME` draws one",
    )


def _models(entries: list[CatalogueEntry], pattern: str) -> BackboneTable:
    rows = [
        [
            entry.name,
            entry.blocks,
            f"{entry.full_macs / 1e9:.2f}",
            f"{entry.base_macs / 1e9:.2f}",
            f"{entry.parameters / 1e6:.1f}",
            str(entry.image_size),
        ]
        for entry in entries
    ]
    return BackboneTable(
        f"{len(entries)} supported models match {pattern!r}",
        ("model", "blocks (skippable)", "GMACs full", "base", "params (M)", "pixels"),
        rows,
        "at the paper's split; `skipline inspect NAME` shows every depth",
    )


def _reasons(catalogue: Catalogue) -> BackboneTable:
    refused = [entry for entry in catalogue.entries.values() if not entry.is_supported]
    reasons = Counter(entry.refusal.partition(" (")[0] for entry in refused)
    return BackboneTable(
        f"{len(refused)} models are refused",
        ("models", REASON),
        [[str(count), reason] for reason, count in reasons.most_common()],
        "`skipline backbones 'repvgg*' --refused` says of each model what stands in the way",
    )


def _refused(entries: list[CatalogueEntry], pattern: str) -> BackboneTable:
    rows = [[entry.name, entry.refusal] for entry in entries]
    return BackboneTable(f"{len(entries)} refused models match {pattern!r}", ("model", REASON), rows)
