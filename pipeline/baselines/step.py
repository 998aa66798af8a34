"""The step beside a job's own: networks of a single depth are trained alone, and the result compared.

It stores a record of every training that ended, so the same command goes on after any end, and a later one
with more seeds goes on with what is there.
"""

from collections.abc import Sequence
from functools import partial

from pipeline.reporting import BaselineLog
from pipeline.steps import Session, final_job, final_plan, train
from pipeline.training.plan import TrainingPlan, shape_of
from pipeline.training.result import TrainingResult
from pipeline.training.trainer import run_training

from .collecting import collect, train_s
from .record import BaselineRecord, BaselineRecords
from .result import Baselines
from .trainings import BaselineTraining, expected_s, is_comparable, planned_trainings
from .verdict import describe_todo


def train_baselines(session: Session, *, num_seeds: int) -> Baselines:
    """Train networks of a single depth alone, and the job's again with further seeds.

    What an earlier command has trained is kept, whatever number of seeds it was given.

    Args:
        session: Of the job, whose own network is trained first where it is not.
        num_seeds: Of the comparison, the job's own seed first.
    """
    plan, store = final_plan(session), BaselineRecords(session.folder.baselines)
    ended = {record.training for record in store.load_all()}
    trainings = [one for one in planned_trainings(plan, num_seeds=num_seeds) if one not in ended]
    if not session.folder.training_result.exists():
        session.reporter.say(f"{describe_todo(trainings, expected_s=None)}; the job's own training is first")
    own = train(session)
    session.reporter.say(describe_todo(trainings, expected_s=expected_duration_s(session, trainings, own)))
    for training in trainings:
        train_baseline(session, training, plan, store)
        keep_baselines(session, plan, own)
    return keep_baselines(session, plan, own)


def expected_duration_s(
    session: Session, trainings: Sequence[BaselineTraining], own: TrainingResult
) -> float:
    """Return about how long trainings of a comparison take, going by the job's own."""
    network = shape_of(final_job(session))
    full_macs, base_macs = map(network.macs, network.extremes)
    return expected_s(trainings, own_s=train_s(own.history), full_macs=full_macs, base_macs=base_macs)


def train_baseline(
    session: Session, training: BaselineTraining, final: TrainingPlan, store: BaselineRecords
) -> None:
    """Carry out one training of a comparison, or go on with it, and record it."""
    plan = training.plan(final)
    log = BaselineLog(session.run, session.outbox, session.reporter, training, epochs=plan.recipe.epochs)
    log.on_start()
    result = run_training(plan, name=training.name, storage=session.folder.baselines, on_progress=log)
    store.save(BaselineRecord(training, result.history))
    log.on_end(result.history)


def keep_baselines(session: Session, plan: TrainingPlan, own: TrainingResult) -> Baselines:
    """Store what the trainings of a comparison have brought so far."""
    records = BaselineRecords(session.folder.baselines).load_all()
    if is_comparable(plan):
        records.append(BaselineRecord(BaselineTraining("adaptive", plan.seed), own.history))
    num_profiles = len(shape_of(final_job(session)).profiles)
    baselines = collect(records, recipe=plan.recipe, num_profiles=num_profiles)
    session.folder.baselines_result.write_text(baselines.to_json())
    session.outbox.put(partial(session.run.log_text, baselines.to_json(), "baselines.json"))
    return baselines
