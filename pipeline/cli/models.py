"""Verbs on registered models."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.evaluation.choices import describe_images
from pipeline.registry.probe import require_answer
from pipeline.terminal import print_profiles, print_table

from .app import app, exit_codes
from .output import JsonOption, Output, speaking

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PANEL = "Registered models"

ModelArgument = Annotated[
    str, typer.Argument(metavar="URI", help="models:/NAME/VERSION or models:/NAME@ALIAS")
]
TrackingOption = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server; default: the embedded store")
]
StorageOption = Annotated[Path, typer.Option(help="Folder of the embedded store")]
ProfileOption = Annotated[str | None, typer.Option(help="full (the default), base, or letters such as TTFF")]
MaxLatencyOption = Annotated[
    float | None, typer.Option(help="The best depth whose calls take at most so long")
]
MaxMacsOption = Annotated[
    float | None, typer.Option(help="The best depth with at most so many multiply-adds")
]
MinAccuracyOption = Annotated[
    float | None, typer.Option(help="The cheapest depth with this top-1 on the validation images")
]


@app.command(rich_help_panel=PANEL)
def models(
    name: Annotated[str | None, typer.Argument(help="Of one registered model; without it: all")] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List registered versions: their aliases, and what their deepest and shallowest profiles reach."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with _registry(output, "reading the registry", tracking_uri, storage) as client:
            from pipeline.registry.versions import list_versions

            listed = list_versions(client, name)
        if as_json:
            output.print_json([version.to_dict() for version in listed])
            return
        print_table(
            output.console,
            ["version", "aliases", "profiles", "full top-1", "base top-1", "full MMACs", "base MMACs"],
            [version.row() for version in listed],
            title="registered versions",
            caption=f"top-1 on {describe_images('validation images', None)}; `skipline profiles` says which",
        )


@app.command(rich_help_panel=PANEL)
def profiles(
    model_uri: ModelArgument,
    measured_on: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="With the latencies of another machine that bench has measured"),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Print the profile table of a registered model version."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with _registry(output, "reading the registry", tracking_uri, storage) as client:
            from pipeline.registry.bench import benched_tables, table_measured_on
            from pipeline.registry.versions import read_profile_table

            if measured_on is None:
                table = read_profile_table(client, model_uri)
            else:
                table = table_measured_on(client, model_uri, measured_on)
            benched = benched_tables(client, model_uri)
        if as_json:
            output.print_json(asdict(table))
            return
        print_profiles(output.console, table, title=model_uri)
        for other in benched if measured_on is None else ():
            output.print(f"measured since on {other.latency} (--measured-on)")


@app.command(rich_help_panel=PANEL)
def predict(
    model_uri: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="PNG or JPEG files")],
    profile: ProfileOption = None,
    max_latency_ms: MaxLatencyOption = None,
    max_macs: MaxMacsOption = None,
    min_accuracy: MinAccuracyOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure first how long such a call takes on this machine")
    ] = False,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Classify image files at one depth of a registered version."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with output.waiting("loading the model"):
            client = connection(tracking_uri, storage)
            from pipeline.registry.prediction import classify

            answer = classify(
                client,
                model_uri,
                images,
                params={
                    "profile": profile,
                    "max_latency_ms": max_latency_ms,
                    "max_macs": max_macs,
                    "min_accuracy": min_accuracy,
                },
                calibrates=calibrate,
            )
        if as_json:
            output.print_json(answer.to_dict())
            return
        rows = [
            [str(image), found.name, f"{found.probability:.3f}"]
            for image, found in zip(images, answer.classes, strict=True)
        ]
        print_table(
            output.console,
            ["image", "class", "probability"],
            rows,
            title=f"{model_uri}, profile {answer.profile}",
            caption=f"latencies are those of {answer.latency}" if max_latency_ms is not None else "",
        )


@app.command(rich_help_panel=PANEL)
def serve(
    model_uri: ModelArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5001,
    target_p95_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=0,
            help="Follow the load: answer at the deepest profile that keeps 95 of 100 requests within so "
            "many milliseconds (needs skipline\\[serve])",
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
) -> None:
    """Answer HTTP requests with a registered version until it is stopped.

    POST /invocations as to MLflow's scoring server, which answers unless a target is given. With a target,
    requests that name a profile or a budget get it, others the depth that the load allows, and GET /report
    tells the mix.
    """
    with exit_codes():
        uri = _store(tracking_uri, storage)
        if target_p95_ms is not None:
            _follow(uri, model_uri, target_ms=target_p95_ms, host=host, port=port)
            return
        with speaking() as output, output.waiting("reading the registry"):
            from pipeline.registry.scoring_server import serve_version
            from pipeline.registry.versions import read_profile_table

            read_profile_table(uri, model_uri)
        serve_version(uri, model_uri, host=host, port=port)


def _follow(tracking_uri: str, model_uri: str, *, target_ms: float, host: str, port: int) -> None:
    with speaking() as output:
        with output.waiting("loading the model"):
            from pipeline.following.display import watch
            from pipeline.following.server import prepared, require_following, serving

            require_following(host, port)
        with ExitStack() as stack:
            with output.reporting() as reporter:
                model = stack.enter_context(
                    prepared(tracking_uri, model_uri, target_ms=target_ms, progress=reporter)
                )
                reporter.advance("starting Ray Serve", 0, 1)
                report = stack.enter_context(serving(model, target_ms=target_ms, host=host, port=port))
                reporter.say(
                    f"{model_uri} answers at http://{host}:{port}/invocations and follows the load to keep "
                    f"p95 within {target_ms:g} ms; GET /report tells the mix of depths; Ctrl-C stops it"
                )
            watch(output.console, report)


@app.command(rich_help_panel=PANEL)
def promote(
    model_uri: ModelArgument,
    override: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Promote in spite of the rules; the reason is recorded"),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion, if the rules of its job (registry.gate) let it."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with _registry(output, "asking the gate", tracking_uri, storage) as client:
            from pipeline.registry import promotion

            champion = promotion.promote(client, model_uri, override=override)
        if as_json:
            output.print_json({"champion": champion.uri})
        else:
            output.print(f"{champion.uri} is the champion")


@app.command(rich_help_panel=PANEL)
def rollback(
    name: Annotated[str, typer.Argument(help="Of the registered model")],
    reason: Annotated[str, typer.Option(help="Recorded with the version that is taken back")],
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Take the champion back, in favour of the one before; the next promotion does not undo that."""
    with exit_codes(), speaking(as_json=as_json) as output:
        with _registry(output, "taking the champion back", tracking_uri, storage) as client:
            from pipeline.registry import promotion

            former, champion = promotion.rollback(client, name, reason=reason)
        if as_json:
            output.print_json({"taken_back": former.uri, "champion": champion.uri if champion else None})
            return
        now = f"{champion.uri} is the champion" if champion else "there is no champion now"
        output.print(f"{former.uri} was taken back; {now}")


@contextmanager
def _registry(output: Output, what: str, tracking_uri: str | None, storage: Path) -> "Iterator[MlflowClient]":
    """Connect to the registry, and show that something is asked of it until the block ends."""
    with output.waiting(what):
        yield connection(tracking_uri, storage)


def connection(tracking_uri: str | None, storage: Path) -> "MlflowClient":
    """Return a client of the store that the options name; slow imports come after its first answer."""
    uri = _store(tracking_uri, storage)
    from pipeline.registry.store import connect_existing

    return connect_existing(uri)


def _store(tracking_uri: str | None, storage: Path) -> str:
    """Return the URI of the registry; one of a server that does not answer is refused."""
    if tracking_uri:
        require_answer(tracking_uri)
    from pipeline.registry.store import embedded_uri

    return tracking_uri or embedded_uri(storage)
