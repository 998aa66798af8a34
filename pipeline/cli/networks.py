"""Verbs that tell about networks and search spaces, without a job."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from pipeline.terminal import print_table

from .app import SetOption, app, exit_codes
from .completion import complete_backbone, complete_family, complete_space
from .output import JsonOption, speaking

if TYPE_CHECKING:
    from pipeline.networks.adaptive import Split

PANEL = "Networks and search spaces"


@app.command(rich_help_panel=PANEL)
def backbones(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Part of a name or timm class, or a glob such as 'convnext*'; without it: the families",
            autocompletion=complete_family,
        ),
    ] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="List the models that are not supported, and why")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the timm models that become adaptive depth networks, with their costs."""
    with exit_codes(), speaking(as_json=as_json) as output:
        from pipeline.backbone_list import REASON, list_backbones, select_backbones
        from pipeline.catalogue import load_catalogue

        catalogue = load_catalogue()
        if as_json:
            found = select_backbones(catalogue, pattern, refused=refused)
            output.print_json([asdict(entry) for entry in found])
            return
        table = list_backbones(catalogue, pattern, refused=refused)
        note = "" if catalogue.is_current else f" (tried with timm {catalogue.timm_version})"
        print_table(
            output.console,
            table.columns,
            table.rows,
            title=table.title + note,
            caption=table.caption,
            prose=(REASON,),
        )


@app.command(rich_help_panel=PANEL)
def inspect(
    backbone: Annotated[
        str,
        typer.Argument(help="timm model name, such as resnet50", autocompletion=complete_backbone),
    ],
    image_size: Annotated[int | None, typer.Option(help="Pixels; default: the backbone's own")] = None,
    small_images: Annotated[
        bool, typer.Option("--small-images", help="3x3 stem for 32-pixel images")
    ] = False,
    stages: Annotated[
        int | None,
        typer.Option(help="Virtual stages of a backbone whose blocks are all alike, such as a ViT"),
    ] = None,
    split: Annotated[str, typer.Option(help="'paper', or mandatory blocks a stage: 2,2,3,2")] = "paper",
    kwargs: Annotated[
        list[str] | None,
        typer.Option("--kwarg", metavar="KEY=VALUE", help="timm argument; repeatable"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print stages, blocks, split and the cost of every profile, without training anything."""
    with exit_codes(), speaking(as_json=as_json) as output:
        points: Split = "paper" if split == "paper" else yaml.safe_load(f"[{split}]")
        pairs = (setting.partition("=") for setting in kwargs or [])
        with output.waiting("building the backbone's shapes"):
            from pipeline.inspection import PROFILE_COLUMNS, STAGE_COLUMNS, inspect_backbone

            report = inspect_backbone(
                backbone,
                image_size=image_size,
                small_images=small_images,
                num_stages=stages,
                split=points,
                kwargs={key: yaml.safe_load(value) for key, _, value in pairs},
            )
        if as_json:
            output.print_json(asdict(report))
            return
        output.print(report.summary())
        print_table(output.console, STAGE_COLUMNS, report.stage_rows(), title="stages")
        print_table(output.console, PROFILE_COLUMNS, report.profile_rows(), title="depth profiles")


@app.command(rich_help_panel=PANEL)
def space(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="A YAML file, or the name of a shipped space.",
            autocompletion=complete_space,
        ),
    ],
    backbone: Annotated[
        str, typer.Option(help="timm model name, such as resnet50", autocompletion=complete_backbone)
    ],
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a search would draw for a backbone: every parameter, its range, and how many designs."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.waiting("building the backbone's shapes"):
            from pipeline.space_report import inspect_space

            report = inspect_space(name, backbone=backbone, settings=settings or ())
        if as_json:
            output.print_json(report.facts)
            return
        output.print(report.summary)
        print_table(output.console, report.columns, report.rows, title="parameters")
