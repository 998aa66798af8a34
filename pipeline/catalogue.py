"""What is known of every timm model name: whether it becomes an adaptive depth network, and at what cost.

The answers lie in `backbones.csv`, written by `python -m tests.benchmarks.backbone_coverage` (see `survey`),
so that listing a thousand names and naming neighbours of a refused one takes no time.
"""

import csv
import fnmatch
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata, resources
from pathlib import Path

FILE = "backbones.csv"
VERSION_PREFIX = "# timm "


@dataclass(frozen=True)
class CatalogueEntry:
    """One timm model.

    Attributes:
        name: timm's.
        family: Its class in timm.
        refusal: Which property it lacks; empty if it is supported.
        blocks: Blocks of every stage, in brackets those that the paper's split leaves out: `3(1) 4(2)`.
        skippable_stages: N; 0 where it is refused.
        image_size: Pixels that the costs are counted for.
        full_macs: Multiply-adds of the whole network for one image.
        base_macs: Multiply-adds with everything skippable skipped.
        parameters: Of the whole network.
    """

    name: str
    family: str
    refusal: str
    blocks: str
    skippable_stages: int
    image_size: int
    full_macs: int
    base_macs: int
    parameters: int

    @property
    def is_supported(self) -> bool:
        """Whether it becomes an adaptive depth network."""
        return not self.refusal


@dataclass(frozen=True)
class Catalogue:
    """All names of one version of timm.

    Attributes:
        timm_version: That the names were tried with.
        entries: By name.
    """

    timm_version: str
    entries: Mapping[str, CatalogueEntry]

    @property
    def is_current(self) -> bool:
        """Whether the installed timm is the one that the names were tried with."""
        return self.timm_version == metadata.version("timm")

    def find(self, pattern: str) -> list[CatalogueEntry]:
        """Return the entries whose name or family matches a glob pattern.

        Text without `*`, `?` or `[` is looked for anywhere in them.
        """
        glob = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
        return [
            entry
            for entry in self.entries.values()
            if fnmatch.fnmatchcase(entry.name, glob.lower())
            or fnmatch.fnmatch(entry.family.lower(), glob.lower())
        ]

    def neighbours(self, name: str, *, count: int = 3) -> list[str]:
        """Return supported models of similar size, one a family, the nearest first.

        Args:
            name: A timm model; one that the catalogue lacks has no neighbours.
            count: How many.
        """
        own = self.entries.get(name)
        if own is None or not own.parameters:
            return []

        def distance(entry: CatalogueEntry) -> float:
            size = abs(math.log(entry.image_size / own.image_size))
            return abs(math.log(entry.parameters / own.parameters)) + size

        supported = (entry for entry in self.entries.values() if entry.is_supported)
        nearest: dict[str, str] = {}
        for entry in sorted(supported, key=lambda entry: (distance(entry), entry.name)):
            nearest.setdefault(entry.family, entry.name)
            if len(nearest) == count:
                break
        return list(nearest.values())


@functools.cache
def load_catalogue() -> Catalogue:
    """Return what is known of all names."""
    version, *rows = resources.files("pipeline").joinpath(FILE).read_text(encoding="utf-8").splitlines()
    entries = [_parse(row) for row in csv.DictReader(rows)]
    return Catalogue(version.removeprefix(VERSION_PREFIX), {entry.name: entry for entry in entries})


def _parse(row: Mapping[str, str]) -> CatalogueEntry:
    return CatalogueEntry(
        name=row["name"],
        family=row["family"],
        refusal=row["refusal"],
        blocks=row["blocks"],
        skippable_stages=int(row["skippable_stages"]),
        image_size=int(row["image_size"]),
        full_macs=int(row["full_macs"]),
        base_macs=int(row["base_macs"]),
        parameters=int(row["parameters"]),
    )


def write_catalogue(entries: Iterable[CatalogueEntry], path: Path) -> None:
    """Write the entries of the installed timm to a file that `load_catalogue` reads, by name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"{VERSION_PREFIX}{metadata.version('timm')}\n")
        writer = csv.DictWriter(file, [field.name for field in fields(CatalogueEntry)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(entry) for entry in sorted(entries, key=lambda entry: entry.name))
