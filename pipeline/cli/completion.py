"""What a shell proposes for arguments; a key press waits for it, so nothing slow is imported.

Typer asks these functions; `skipline --install-completion` tells the shell to ask.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pipeline.config import all_keys, presets

JOB_FILES = (".yaml", ".yml")


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """Return presets, job files and folders that begin so."""
    known = [(name, "preset") for name in presets() if name.startswith(incomplete)]
    return [*known, *_files(incomplete)]


def complete_space(incomplete: str) -> list[tuple[str, str]]:
    """Return shipped search spaces, YAML files and folders that begin so."""
    # Importing the package imports torch, so it is looked for instead.
    package = find_spec("search_spaces")
    folders = package.submodule_search_locations if package else None
    names = sorted(path.stem for folder in folders or () for path in Path(folder).glob("*.yaml"))
    known = [(name, "shipped space") for name in names if name.startswith(incomplete)]
    return [*known, *_files(incomplete)]


def complete_backbone(incomplete: str) -> list[tuple[str, str]]:
    """Return supported timm models that begin so, with their families."""
    from pipeline.catalogue import load_catalogue

    return [
        (name, entry.family)
        for name, entry in load_catalogue().entries.items()
        if entry.is_supported and name.startswith(incomplete)
    ]


def complete_family(incomplete: str) -> list[str]:
    """Return families of supported timm models that begin so, and the models that do."""
    from pipeline.catalogue import load_catalogue

    supported = [entry for entry in load_catalogue().entries.values() if entry.is_supported]
    names = {entry.family for entry in supported} | {entry.name for entry in supported}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_setting(incomplete: str) -> list[tuple[str, str]]:
    """Return keys of the job file that begin so, each followed by what its value is written after."""
    return [(f"{key}=", description) for key, description in all_keys().items() if key.startswith(incomplete)]


def _files(incomplete: str) -> Iterator[tuple[str, str]]:
    folder, separator, start = incomplete.rpartition("/")
    for path in sorted(Path(f"{folder}{separator}" or ".").glob("*")):
        if path.name.startswith(start) and not (path.name.startswith(".") and not start):
            if path.is_dir():
                yield f"{folder}{separator}{path.name}/", "folder"
            elif path.suffix in JOB_FILES:
                yield f"{folder}{separator}{path.name}", "file"
