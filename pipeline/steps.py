"""The steps of a job: tune, train, evaluate, register.

Each step stores its result in the job's folder and is skipped where the result is there, so the same command
goes on after any end. The driver alone writes to MLflow.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial

from cluster.daemons import daemons_watched
from cluster.runtime import connected, run_remotely
from cluster.usage import UsageWatch
from pipeline.baselines.record import BaselineRecords
from pipeline.checks.no_effect import class_problems
from pipeline.config import Job
from pipeline.data.plan import DataPlan, prepare_data
from pipeline.errors import JobError, RequestError
from pipeline.evaluation.choices import made_choices
from pipeline.evaluation.table import ProfileTable
from pipeline.folder import JobFolder
from pipeline.measuring import load_evaluated, measure_checkpoint
from pipeline.networks.misfit import PretrainedError
from pipeline.networks.pretrained import Source
from pipeline.recipe import TeacherConfig
from pipeline.registry import tags
from pipeline.registry.origin import ImageSet, Origin
from pipeline.registry.outbox import Outbox
from pipeline.registry.register import RegisteredVersion, find_version, register_model
from pipeline.registry.run_description import Conclusion, describe_conclusion, describe_job
from pipeline.registry.store import (
    connect,
    default_artifact_root,
    ensure_experiment,
    leave_retries_to_us,
    reach_artifacts,
    tracking_uri,
)
from pipeline.registry.tracking import EndStatus, JobRun, is_closed
from pipeline.report.provenance import Provenance
from pipeline.report.publish import REPORT_FILE, find_standing, log_report, make_report
from pipeline.reporter import Reporter, Silent
from pipeline.reporting import (
    BaselineLog,
    EpochLog,
    TrialLog,
    WarmupLog,
    log_history,
    text_of_split,
    trial_run_name,
)
from pipeline.search.driver import max_concurrent_trials, run_search
from pipeline.search.latencies import stored_latencies
from pipeline.search.observer import GuardedObserver
from pipeline.search.record import RecordStore
from pipeline.search.result import SearchResult
from pipeline.search.sweep import SweepBoard
from pipeline.search.trial import WINNER
from pipeline.search.verdict import describe_verdict
from pipeline.storage import StoragePath
from pipeline.training.channels import channels_of
from pipeline.training.initial_weights import GivenWeights, store_initial_weights
from pipeline.training.plan import (
    TrainingPlan,
    describe_network,
    describe_teacher,
    load_data_plan,
    plan_training,
    shape_of,
    stage_sizes,
)
from pipeline.training.progress import open_board, watching
from pipeline.training.result import TrainingResult
from pipeline.training.trainer import resources_per_worker, run_training

_log = logging.getLogger(__name__)

FAREWELL_S = 10.0
"""How long a command that ends early tries to say so to MLflow; chosen."""


@dataclass(frozen=True)
class Session:
    """A job at work: its folder is locked, its MLflow run open.

    Attributes:
        job: Its settings.
        folder: Where its steps leave their results.
        run: Its run in MLflow.
        outbox: Through which the run is told what happens.
        reporter: Through which the user is.
    """

    job: Job
    folder: JobFolder
    run: JobRun
    outbox: Outbox
    reporter: Reporter

    @property
    def weights(self) -> GivenWeights:
        """Files of weights that all trainings are given."""
        return GivenWeights(
            initial=None if self.job.backbone.pretrained is False else self.folder.initial_weights,
            teacher=None if self.job.distillation.teacher is None else self.folder.teacher_weights,
        )


@contextmanager
def opened(job: Job, reporter: Reporter) -> Iterator[Session]:
    """Lock the job's folder, prepare its data and initial weights, connect to Ray, open its MLflow run.

    All of it ends with the block.
    """
    folder = JobFolder.of(job)
    with folder.locked(job, reporter.say):
        if not (folder.is_claimed and folder.data_plan.exists()):
            prepare_images(job, folder, reporter)
        source = job.backbone.pretrained
        if source is not False and not (folder.is_claimed and folder.initial_weights.exists()):
            prepare_weights(job, folder, source, reporter)
        teacher = job.distillation.teacher
        if teacher is not None and not (folder.is_claimed and folder.teacher_weights.exists()):
            prepare_teacher(job, folder, teacher, reporter)
        folder.claim(job)
        if not folder.provenance.exists():
            folder.provenance.write_text(Provenance.of_this_process().to_json())
        reporter.advance("starting Ray and MLflow", 0, 1)
        with connected(), Outbox(reporter) as outbox:
            session = Session(job, folder, open_run(job), outbox, reporter)
            tell_again(session)
            try:
                with daemons_watched(partial(give_up, session)):
                    yield session
            except Exception:
                bid_farewell(session, "FAILED")
                raise
            except BaseException:
                bid_farewell(session, "KILLED")
                raise
            outbox.ask(partial(session.run.close, "FINISHED"))


def tell_again(session: Session) -> None:
    """Tell MLflow what steps of earlier commands stored, as far as it is not known to have heard of it.

    The store may have been away, and the command killed before it came back.
    """
    folder, run, outbox = session.folder, session.run, session.outbox
    search = session.job.search
    if search is not None and folder.search_result.exists():
        result = SearchResult.from_json(folder.search_result.read_text())
        log = TrialLog(run, outbox, Silent(), trials=search.trials, epochs=search.epochs)
        records = RecordStore(folder.search / "records")
        for trial in (*result.trials, *result.repeats):
            if trial.trial_id not in run.ended_trials:
                GuardedObserver(log).tell_again(records.load(trial.number))
        outbox.put(partial(run.log_text, result.to_json(), "search.json"))
    if folder.training_result.exists():
        outbox.put(partial(log_history, run, read_training(folder).history))
    for record in BaselineRecords(folder.baselines).load_all():
        epochs = len(record.history)
        BaselineLog(run, outbox, Silent(), record.training, epochs=epochs).tell_again(record)
    if folder.baselines_result.exists():
        outbox.put(partial(run.log_text, folder.baselines_result.read_text(), "baselines.json"))


def bid_farewell(session: Session, status: EndStatus) -> None:
    """Close the run of a command that ends early, if MLflow answers: the next command opens it anyway."""
    try:
        session.outbox.ask(partial(session.run.close, status), patience_s=FAREWELL_S)
    except JobError as error:
        _log.warning("the run is not closed: %s", error)
        session.reporter.say("MLflow shows the run as RUNNING until the same command is given again")


def give_up(session: Session, loss: str) -> None:
    """Say why a command ends whose Ray is gone."""
    session.reporter.say(
        f"error: a job needs the processes of its Ray, {loss} (-9 is what a machine does that runs out of "
        "memory); what was finished is kept, the same command goes on from there"
    )
    bid_farewell(session, "FAILED")


def open_run(job: Job) -> JobRun:
    """Return the job's parent run in MLflow, the same one whenever the job goes on."""
    leave_retries_to_us()
    client = connect(tracking_uri(job))
    root = default_artifact_root(client.tracking_uri, storage=StoragePath.parse(job.storage, job.s3))
    if root is not None and not root.is_local:
        reach_artifacts(job.s3)
    experiment = ensure_experiment(client, job.registry.experiment, artifact_root=root)
    return JobRun.open(
        client,
        experiment,
        name=job.name,
        key=job.key(),
        params=job.settings(),
        tags={tags.KIND: "job"},
        description=describe_job(job),
    )


def prepare_images(job: Job, folder: JobFolder, reporter: Reporter) -> None:
    """Check every image and decide which of them train.

    Raises:
        RequestError: If images or labels are wrong beyond what the job allows, too few for one batch, or of
            too few classes for a setting.
    """
    data = job.data
    plan = prepare_data(
        data.train,
        data.validation,
        validation_fraction=data.validation_fraction,
        seed=job.seed,
        bad_items=data.bad_items,
        max_bad_fraction=data.max_bad_fraction,
        s3=job.s3,
        cache_limit_gib=data.cache_limit_gib,
        channels=channels_of(job),
        on_progress=lambda done, total: reporter.advance("checking images", done, total),
    )
    for problem in plan.skipped:
        reporter.say(f"left out: {problem}")
    check_batches(job, plan)
    check_repeats(job, plan)
    check_policy(job, plan)
    if problems := class_problems(job, plan.num_classes):
        raise RequestError(problems)
    reporter.say(
        f"data: {len(plan.train_rows)} training and {len(plan.validation_rows)} validation images, "
        f"{plan.num_classes} classes"
    )
    with folder.data_plan.writing() as path:
        plan.save(path)


def prepare_weights(job: Job, folder: JobFolder, source: Source, reporter: Reporter) -> None:
    """Make the file that all trainings start from, so that nothing is fetched once a worker.

    Raises:
        RequestError: If the pretrained weights cannot be had, or do not fit the backbone.
    """
    reporter.advance("preparing pretrained weights", 0, 1)
    description = describe_network(job, num_classes=load_data_plan(folder.data_plan).num_classes)
    try:
        new = store_initial_weights(folder.initial_weights, description, source, seed=job.seed)
    except PretrainedError as error:
        raise RequestError(f"backbone: {error}") from error
    origin = "timm's published weights" if source is True else source
    reporter.say(f"initial weights: {origin}; new: {', '.join(new) or 'none'}")


def prepare_teacher(job: Job, folder: JobFolder, teacher: TeacherConfig, reporter: Reporter) -> None:
    """Make the file of the weights of the network that teaches the super-net.

    Raises:
        RequestError: If its weights cannot be had, do not fit, or are not for the job's classes.
    """
    reporter.advance("preparing the teacher", 0, 1)
    num_classes = load_data_plan(folder.data_plan).num_classes
    description = describe_teacher(job, num_classes=num_classes)
    if description is None:
        return
    source: Source = True if teacher.weights is True else str(teacher.weights)
    try:
        new = store_initial_weights(folder.teacher_weights, description, source, seed=job.seed)
    except PretrainedError as error:
        raise RequestError(f"distillation.teacher: {error}") from error
    if new:
        folder.teacher_weights.delete()
        raise RequestError(
            f"distillation.teacher must predict the job's {num_classes} classes, the weights of "
            f"{teacher.name} lack {', '.join(new)} for them; give a checkpoint trained on these classes"
        )


def check_batches(job: Job, plan: DataPlan) -> None:
    """Raise RequestError if an epoch, a trial's included, would not fill one batch."""
    fraction = job.search.data_fraction if job.search else 1.0
    num_images = len(plan.take(fraction, seed=job.seed).train_rows) if fraction < 1 else len(plan.train_rows)
    if num_images < job.training.batch_size:
        share = f" (search.data_fraction {fraction:g})" if fraction < 1 else ""
        raise RequestError(
            f"training.batch_size must not exceed the training images, got {job.training.batch_size} for "
            f"{num_images}{share}; lower it or give more images"
        )


def check_repeats(job: Job, plan: DataPlan) -> None:
    """Raise RequestError if images should be repeated that are streamed, each once."""
    if job.augmentation.repeats > 1 and len(plan.train_shard_rows):
        raise RequestError(
            "augmentation.repeats needs data that is kept whole on every machine, got "
            f"{job.augmentation.repeats} for {job.data.train}, which is larger than data.cache_limit_gib "
            f"({job.data.cache_limit_gib:g}) and streamed; write 1, or raise the limit"
        )


def check_policy(job: Job, plan: DataPlan) -> None:
    """Raise RequestError if a policy should vary images of more than 8 bits, of which Pillow varies none."""
    if job.augmentation.policy is not None and plan.is_deep:
        raise RequestError(
            "augmentation.policy varies images of 8 bits, got "
            f"{job.augmentation.policy} for {job.data.train}, which holds 16-bit grey; leave it out "
            "(color_jitter, erasing, mixup and cutmix take any depth), or save the images with 8 bits"
        )


def tune(session: Session) -> SearchResult | None:
    """Search split points and recipe; returns None for a job without search."""
    job, path = session.job, session.folder.search_result
    if job.search is None:
        return None
    if path.exists():
        return SearchResult.from_json(path.read_text())
    at_once = max_concurrent_trials(job)
    session.reporter.say(
        f"search in space {job.search.space}: "
        f"{job.search.trials} trials of {job.search.epochs} epochs at most, "
        f"{at_once} at a time with {job.training.workers} workers each"
    )
    trials, epochs = job.search.trials, job.search.epochs
    board = SweepBoard(job.name, num_trials=trials, max_epochs=epochs, usage=UsageWatch().latest)
    with session.reporter.showing(board.look):
        result = run_search(
            job,
            session.folder.data_plan,
            folder=session.folder.search,
            stages=stage_sizes(shape_of(job)),
            weights=session.weights,
            observers=[
                TrialLog(session.run, session.outbox, session.reporter, trials=trials, epochs=epochs),
                board,
            ],
            on_warmup=WarmupLog(session.reporter, epochs=epochs),
        )
    session.outbox.put(partial(session.run.log_text, result.to_json(), "search.json"))
    for line in describe_verdict(job, result):
        session.reporter.say(line)
    return result


def train(session: Session) -> TrainingResult:
    """Train the job's network, with the best trial's settings where there was a search."""
    path = session.folder.training_result
    if path.exists():
        return read_training(session.folder)
    plan = final_plan(session)
    split = plan.network.split if plan.network.split == "paper" else list(plan.network.split)
    session.reporter.say(f"training {plan.network.backbone}, split {split}")
    result = run_training(
        plan,
        name=session.folder.training.name,
        storage=session.folder.root,
        on_progress=EpochLog(session.run, session.outbox, session.reporter, epochs=plan.recipe.epochs),
    )
    path.write_text(result.to_json())
    session.outbox.put(partial(log_history, session.run, result.history))
    return result


def final_plan(session: Session) -> TrainingPlan:
    """Return the final training."""
    job = final_job(session)
    goes_on = job.search is not None and job.search.winner == "continue"
    weights = replace(session.weights, winner=session.folder.search / WINNER if goes_on else None)
    return plan_training(
        job,
        session.folder.data_plan,
        weights=weights,
        latencies=stored_latencies(session.folder.search),
    )


def final_job(session: Session) -> Job:
    """Return the job's settings, overridden by the best trial's values where there was a search."""
    best = tune(session)
    return session.job.override(best.best.values) if best else session.job


def evaluate(session: Session) -> ProfileTable:
    """Measure every depth profile of the best checkpoint on a worker of the cluster."""
    path = session.folder.profile_table
    if path.exists():
        return ProfileTable.from_json(path.read_text())
    training = train(session)
    plan = final_plan(session)
    board = open_board()
    with watching(
        board, lambda now: session.reporter.advance("evaluating profiles", now.step, now.num_steps)
    ):
        measurement = run_remotely(
            measure_checkpoint,
            resources_per_worker(plan.recipe),
            plan,
            training.checkpoint,
            session.folder.calibrated_weights,
            session.job.evaluation,
            board,
        )
    if "paths" in measurement.mean_top1:
        means = measurement.mean_top1
        session.reporter.say(
            f"norm statistics taken anew for every path: mean top-1 {means['training']:.4f} to "
            f"{means['paths']:.4f}; {'kept' if measurement.table.statistics == 'paths' else 'dropped'}"
        )
    result = tune(session)
    choices = made_choices(
        trials=len(result.trials) if result else 0,
        epochs=plan.recipe.epochs,
        averages=plan.recipe.ema_decay is not None,
        statistics=len(measurement.mean_top1),
    )
    table = replace(measurement.table, choices=choices)
    session.folder.analysis.write_text(measurement.analysis.to_json())
    path.write_text(table.to_json())
    return table


def register(session: Session) -> RegisteredVersion:
    """Register the evaluated network as one model version, however often this runs."""
    table = evaluate(session)
    plan = final_plan(session)
    data = load_data_plan(plan.data)
    session.reporter.advance("registering", 0, 1)
    network = load_evaluated(plan, train(session).checkpoint, session.folder.calibrated_weights, table)
    register_version = partial(
        register_model,
        session.run.client,
        session.run,
        name=session.job.registry.model,
        key=session.job.key(),
        network=network,
        preprocessing=plan.preprocessing.to_dict(),
        class_names=data.class_names,
        table=table,
        origin=Origin(
            session.job.name,
            final_job(session).settings(),
            ImageSet.of(data.train_rows, data.train_labels, data.class_names),
            ImageSet.of(data.validation_rows, data.validation_labels, data.class_names),
        ),
        rules=session.job.registry.gate,
    )
    version = session.outbox.ask(register_version)
    session.folder.version.write_text(json.dumps(asdict(version)))
    conclude(session, version, table, split=network.split)
    report(session)
    return version


def conclude(
    session: Session, version: RegisteredVersion, table: ProfileTable, *, split: tuple[int, ...]
) -> None:
    """Tell the job's run what came of it."""
    run, job, result = session.run, session.job, tune(session)
    best = (
        trial_run_name(result.best.number, result.best.values, trials=len(result.trials)) if result else None
    )
    end = Conclusion(version, table, split, best, REPORT_FILE)
    text = describe_conclusion(job, end, experiment_id=run.experiment_id, run_id=run.run_id)
    found = {tags.BACKBONE: final_job(session).backbone.name, tags.SPLIT: text_of_split(split)}
    session.outbox.put(partial(run.describe, text, found))


def report(session: Session) -> None:
    """Make the page that shows what the job did; a fault in making it never ends a job."""
    session.reporter.advance("making the report", 0, 1)
    standing = session.outbox.ask(partial(find_standing, session.run.client, session.job))
    try:
        made = make_report(session.job, session.folder, standing)
    except Exception as error:  # noqa: BLE001  the network is worth more than its picture
        _log.exception("no report")
        session.reporter.say(
            f"the report could not be made ({type(error).__name__}: {error}); nothing else depends on it, "
            "`skipline report` with the same job tries again"
        )
    else:
        session.outbox.put(partial(log_report, session.run, made))


def finished(job: Job) -> tuple[RegisteredVersion, ProfileTable] | None:
    """Return what a job that is done has registered, if MLflow has all of it."""
    folder = JobFolder.of(job)
    if not (folder.version.exists() and folder.profile_table.exists()):
        return None
    client = connect(tracking_uri(job))
    if not is_closed(client, job.registry.experiment, job.key()):
        return None
    version = find_version(client, job.registry.model, job.key())
    return (version, ProfileTable.from_json(folder.profile_table.read_text())) if version else None


def read_training(folder: JobFolder) -> TrainingResult:
    """Read what `train` stored."""
    return TrainingResult.from_json(folder.training_result.read_text(), folder.training)
