"""Verbs that take a registered version out of the registry, or look whether it keeps what it promises."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import JobError, RequestError
from pipeline.terminal import print_profiles, print_table

from .app import app, exit_codes
from .models import (
    PANEL,
    MaxLatencyOption,
    MaxMacsOption,
    MinAccuracyOption,
    ModelArgument,
    ProfileOption,
    StorageOption,
    TrackingOption,
    connection,
)
from .output import JsonOption, speaking

DeviceOption = Annotated[str, typer.Option(help="cpu, or cuda where there is a GPU")]


class Format(StrEnum):
    """What `pull` writes."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"
    PT2 = "pt2"
    ONNX = "onnx"


@app.command(rich_help_panel=PANEL)
def pull(
    model_uri: ModelArgument,
    folder: Annotated[Path, typer.Option("--output", help="New folder for the files")],
    file_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="safetensors and torch hold weights, with the code that loads them; "
            "pt2 (torch.export) and onnx hold a program",
        ),
    ] = Format.SAFETENSORS,
    profile: ProfileOption = None,
    max_latency_ms: MaxLatencyOption = None,
    max_macs: MaxMacsOption = None,
    min_accuracy: MinAccuracyOption = None,
    all_profiles: Annotated[
        bool, typer.Option("--all", help="All depths in one file, with the profile as an input")
    ] = False,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write one depth of a version, or all, as a file for another runtime; it is compared with PyTorch.

    [bold]skipline pull models:/quickstart/1 --max-macs 5e6 --format onnx --output small[/]
    """
    params = {
        "profile": profile,
        "max_latency_ms": max_latency_ms,
        "max_macs": max_macs,
        "min_accuracy": min_accuracy,
    }
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.reporting() as reporter:
            reporter.advance("loading and exporting", 0, 1)
            given = [name for name, value in params.items() if value is not None]
            if all_profiles and given:
                raise RequestError(
                    f"--all takes every depth, got {' and '.join(given)} beside it; leave out one of the two"
                )
            client = connection(tracking_uri, storage)
            from pipeline.registry import pull as registry

            pulled = registry.pull(
                client,
                model_uri,
                format_name=file_format,
                folder=folder,
                params=None if all_profiles else params,
                on_progress=lambda done, total: reporter.advance("comparing with PyTorch", done, total),
            )
        if as_json:
            facts = {
                "version": pulled.version,
                "file": str(pulled.file),
                "bytes": pulled.num_bytes,
                "profile": pulled.profile,
                "difference_from_torch": dict(pulled.differences),
            }
            output.print_json(facts)
            return
        what = f"profile {pulled.profile}" if pulled.profile else f"all {len(pulled.differences)} profiles"
        output.print(f"{pulled.version}, {what}: {pulled.file} ({pulled.num_bytes / 2**20:.1f} MiB)")
        worst = max(pulled.differences, key=lambda name: pulled.differences[name])
        at = "" if pulled.profile else f", at {worst}"
        output.print(
            "largest difference of a logit from PyTorch, as a share of the largest logit: "
            f"{pulled.differences[worst]:.1e}{at}"
        )


@app.command(rich_help_panel=PANEL)
def bench(
    model_uri: ModelArgument,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one timed call")] = 1,
    device: DeviceOption = "cpu",
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of every profile on this machine, and keep it with the version.

    [bold]skipline profiles URI --measured-on TEXT[/] shows it later; here, max_latency_ms goes by it.
    """
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.reporting() as reporter:
            reporter.advance("loading the model", 0, 1)
            client = connection(tracking_uri, storage)
            from pipeline.registry import bench as registry

            table = registry.bench(
                client,
                model_uri,
                batch_size=batch_size,
                device=device,
                on_progress=lambda done, total: reporter.advance("measuring profiles", done, total),
            )
        if as_json:
            output.print_json(asdict(table))
        else:
            print_profiles(output.console, table, title=model_uri)


@app.command(rich_help_panel=PANEL)
def verify(
    model_uri: ModelArgument,
    data: Annotated[str, typer.Option(help="Images with labels, as data.train of a job names them")],
    device: DeviceOption = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time")] = 64,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Count again what every profile of a version gets right, and compare it with what was registered.

    Give the data of its job: the images that it validated on are found among them. Exit code 1 where a
    profile does not reach what was registered.
    """
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.reporting() as reporter:
            reporter.advance("loading the model", 0, 1)
            client = connection(tracking_uri, storage)
            from pipeline.registry import verification

            found = verification.verify(
                client,
                model_uri,
                data=data,
                device=device,
                batch_size=batch_size,
                on_progress=reporter.advance,
            )
        if as_json:
            output.print_json(found.to_dict())
        else:
            images = "the registered table's own" if found.are_same else "others than the registered table's"
            print_table(
                output.console,
                ["profile", "", "registered", "now", "difference", "allowed"],
                [comparison.row() for comparison in found.comparisons],
                title=f"top-1 of {found.version}",
                caption=f"{found.num_images} images, {images}; registered on {found.registered_on}",
            )
    with exit_codes():
        if found.broken:
            raise JobError(
                "profiles must reach what was registered, "
                f"{len(found.broken)} of {len(found.comparisons)} do not: "
                f"{', '.join(comparison.profile for comparison in found.broken)}; see that the data and the "
                "files are those of the job"
            )
