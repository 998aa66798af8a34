"""Verbs that send jobs to a cluster and look after them."""

import datetime
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.config import examine_job, find_job_file, presets, read_job
from pipeline.errors import JobError, RequestError
from pipeline.terminal import print_table

from .app import SetOption, app, exit_codes
from .jobs import JobArgument
from .output import JsonOption, Output, QuietOption, direct_output, speaking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.package import Package
    from cluster.submission import Cluster, Demand, Submission

PANEL = "Jobs on a cluster"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"

AddressOption = Annotated[
    str,
    typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="HTTP address of the cluster's dashboard"),
]
NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The job's name, for its latest submission, or a submission's id"),
]


@app.command(rich_help_panel=PANEL)
def submit(
    job: JobArgument,
    settings: SetOption = None,
    address: AddressOption = DEFAULT_ADDRESS,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the log and end with the job's own exit code")
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="What is sent, and where the job's relative paths start")
    ] = Path(),
    max_upload_mib: Annotated[int, typer.Option(min=1, max=500, help="Refuse to send more than this")] = 100,
    image: Annotated[
        str | None, typer.Option(help="Container image to run in; default: what the nodes have installed")
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="File of packages to install on the nodes, each NAME==VERSION")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="To find the job by; repeatable")
    ] = None,
    node_labels: Annotated[
        list[str] | None,
        typer.Option(
            "--on", metavar="KEY=VALUE", help="Label of the node for the command itself; repeatable"
        ),
    ] = None,
    autoscaled: Annotated[
        bool, typer.Option("--autoscaled", help="The cluster adds nodes: send also what has no room yet")
    ] = False,
    driver_cpus: Annotated[float, typer.Option(min=0, help="Cores to reserve for the command itself")] = 0,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Run a job on a Ray cluster; one that was submitted before goes on where it was.

    Sends the folder's files, without those that .gitignore and .rayignore name. Credentials are the cluster's
    own: none is sent.
    """
    with exit_codes():
        with speaking(as_json=as_json, is_quiet=is_quiet) as output, output.waiting("checking the job"):
            from cluster.submission import Cluster, Demand

            demand = Demand(driver_cpus, _pairs("--on", node_labels))
            tags = _pairs("--label", labels)
            cluster = Cluster(address)
            name, package, environment = _checked(
                cluster,
                job,
                settings or (),
                folder=folder,
                max_upload_mib=max_upload_mib,
                image=image,
                requirements=requirements,
                autoscaled=autoscaled,
                demand=demand,
            )
        output = direct_output(as_json=as_json, is_quiet=is_quiet)
        if (submission := cluster.running(name)) is not None:
            output.tell(f"{submission.id} runs already; nothing is sent")
        else:
            _describe(output, package)
            command = _command(job, settings or (), folder)
            with tempfile.TemporaryDirectory() as temporary:
                archive = Path(temporary) / "folder.zip"
                package.write(archive)
                submission = cluster.submit(
                    name, command, archive=archive, environment=environment, labels=tags, demand=demand
                )
        output.tell(f"{submission.id}: {submission.status}; {_how_to_come_back(submission, address)}")
        if wait:
            _wait(output, cluster, submission)
        elif as_json:
            output.print_json(_plain(submission))
        elif is_quiet:
            output.print(submission.id)


@app.command(rich_help_panel=PANEL)
def jobs(address: AddressOption = DEFAULT_ADDRESS, as_json: JsonOption = False) -> None:
    """List the jobs that were submitted to a cluster, the oldest first."""
    with exit_codes():
        _print(_cluster(address).submissions(), as_json=as_json)


@app.command(rich_help_panel=PANEL)
def status(name: NameArgument, address: AddressOption = DEFAULT_ADDRESS, as_json: JsonOption = False) -> None:
    """Show every submission of a job, and what Ray says of the latest."""
    with exit_codes():
        cluster = _cluster(address)
        latest = cluster.latest(name)
        known = [one for one in cluster.submissions() if name in (one.id, one.job)]
        _print(known, as_json=as_json)
        if not as_json:
            direct_output().print(latest.message)


@app.command(rich_help_panel=PANEL)
def logs(
    name: NameArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends")] = False,
    address: AddressOption = DEFAULT_ADDRESS,
) -> None:
    """Print what a submitted job has printed; with -f, end with the job's own exit code."""
    with exit_codes():
        cluster = _cluster(address)
        submission = cluster.latest(name)
        if follow:
            _wait(direct_output(), cluster, submission)
        else:
            sys.stdout.write(cluster.log(submission))


@app.command(rich_help_panel=PANEL)
def stop(name: NameArgument, address: AddressOption = DEFAULT_ADDRESS, as_json: JsonOption = False) -> None:
    """Stop a submitted job; what it stored is kept, and submitting it again goes on from there."""
    with exit_codes():
        cluster, output = _cluster(address), direct_output(as_json=as_json)
        submission = cluster.latest(name)
        has_ended = submission.has_ended
        if not has_ended:
            with output.waiting(f"stopping {submission.id}"):
                submission = cluster.stop(submission)
        if as_json:
            output.print_json(_plain(submission))
        elif has_ended:
            output.print(f"{submission.id} has ended already: {submission.status}")
        else:
            way_on = "`skipline submit` with the same job goes on from there"
            output.print(f"{submission.id}: {submission.status}; {way_on}")


def _cluster(address: str) -> "Cluster":
    from cluster.submission import Cluster

    return Cluster(address)


def _checked(
    cluster: "Cluster",
    source: str,
    settings: "Sequence[str]",
    *,
    folder: Path,
    max_upload_mib: int,
    image: str | None,
    requirements: Path | None,
    autoscaled: bool,
    demand: "Demand",
) -> "tuple[str, Package, dict[str, Any]]":
    """Return the job's name, what is sent and the environment; raises RequestError with all that is wrong."""
    from cluster.checks import pinned_requirements, submission_problems
    from cluster.package import Package

    found = examine_job(read_job(source, settings))
    problems = [*found.problems]
    package = Package.of(folder)
    package.require_small(max_upload_mib * 2**20)
    if source not in presets() and not package.contains(find_job_file(source).absolute()):
        problems.append(
            f"the job file must be sent with the job, {source} is not among the files of "
            f"{folder.absolute()}; move it there, name its folder with --folder, or take it out of .gitignore"
        )
    environment: dict[str, Any] = {}
    if image is not None and requirements is not None:
        problems.append(
            "--image has its own packages, got --requirements beside it; leave one of the two out"
        )
    if image is not None:
        environment["image_uri"] = image
    if requirements is not None:
        environment["pip"], wrong = pinned_requirements(requirements)
        problems += wrong
    if found.job is not None:
        problems += submission_problems(
            found.job,
            package,
            cluster.capacity(),
            grows=autoscaled,
            demand=demand,
            stand_ins=found.stand_ins,
        )
    if found.job is None or problems:
        raise RequestError(problems)
    return found.job.name, package, environment


def _command(source: str, settings: "Sequence[str]", folder: Path) -> list[str]:
    path = source if source in presets() else str(Path(source).absolute().relative_to(folder.absolute()))
    return ["skipline", "run", path, *(word for setting in settings for word in ("--set", setting))]


def _pairs(option: str, given: "Sequence[str] | None") -> dict[str, str]:
    wrong = [text for text in given or () if not text.partition("=")[0] or "=" not in text]
    if wrong:
        raise RequestError([f"{option} must be written KEY=VALUE, got {text!r}" for text in wrong])
    return {key: value for key, _, value in (text.partition("=") for text in given or ())}


def _describe(output: Output, package: "Package") -> None:
    from cluster.package import in_mib

    largest = ", ".join(f"{file.path} {in_mib(file.num_bytes)}" for file in package.largest())
    output.tell(
        f"sending {len(package.files)} files, {in_mib(package.num_bytes)}, of {package.folder.absolute()}"
    )
    if largest:
        output.tell(f"largest: {largest}")


def _wait(output: Output, cluster: "Cluster", submission: "Submission") -> None:
    """Show a job's log until it ends, and end with its exit code."""
    try:
        ended = cluster.follow(submission, output.pass_on, output.warn)
    except KeyboardInterrupt:
        output.tell(f"\n{submission.id} goes on; {_how_to_come_back(submission, cluster.address)}")
        raise typer.Exit(1) from None
    if output.as_json:
        output.print_json(_plain(ended))
    if ended.status == "SUCCEEDED":
        return
    if ended.exit_code is None or ended.exit_code < 0:
        raise JobError(
            f"{ended.id} ended without an exit code of its own: {ended.status} "
            f"({ended.message or 'no reason given'}); what it stored is kept, "
            "submitting it again goes on from there"
        )
    output.tell(f"{ended.id}: {ended.status}, exit code {ended.exit_code}")
    raise typer.Exit(ended.exit_code)


def _how_to_come_back(submission: "Submission", address: str) -> str:
    where = "" if address == DEFAULT_ADDRESS else f" --address {address}"
    follow, end = (f"skipline {verb} {submission.job}{where}" for verb in ("logs -f", "stop"))
    return f"`{follow}` follows it, `{end}` ends it"


def _print(submissions: "Sequence[Submission]", *, as_json: bool) -> None:
    output = direct_output(as_json=as_json)
    if as_json:
        output.print_json([_plain(one) for one in submissions])
        return
    rows = [
        [
            one.id,
            str(one.status),
            "" if one.start_s is None else _moment(one.start_s),
            "" if one.start_s is None else _duration((one.end_s or time.time()) - one.start_s),
            "" if one.exit_code is None else str(one.exit_code),
            ", ".join(f"{key}={value}" for key, value in one.labels.items()),
        ]
        for one in submissions
    ]
    print_table(
        output.console, ["submission", "status", "started", "ran", "exit code", "labels"], rows, title="jobs"
    )


def _plain(one: "Submission") -> dict[str, Any]:
    return {
        "id": one.id,
        "job": one.job,
        "status": str(one.status),
        "message": one.message,
        "exit_code": one.exit_code,
        "start_s": one.start_s,
        "end_s": one.end_s,
        "labels": dict(one.labels),
    }


def _moment(time_s: float) -> str:
    return datetime.datetime.fromtimestamp(time_s, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
