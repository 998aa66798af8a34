import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.table import ProfileTable
from pipeline.gate_config import GateConfig
from pipeline.registry import tags
from pipeline.registry.origin import ImageSet, Origin
from pipeline.registry.register import register_model
from pipeline.registry.store import connect, default_artifact_root, ensure_experiment, tracking_uri
from pipeline.registry.tracking import JobRun
from pipeline.report.publish import find_standing
from pipeline.storage import StoragePath
from pipeline.training.plan import load_data_plan, plan_training


@pytest.fixture
def client(evaluated):
    job, _ = evaluated
    return connect(tracking_uri(job))


@pytest.fixture
def run(evaluated, client):
    job, _ = evaluated
    root = default_artifact_root(client.tracking_uri, storage=StoragePath.parse(job.storage, job.s3))
    experiment = ensure_experiment(client, job.registry.experiment, artifact_root=root)
    return JobRun.open(client, experiment, name=job.name, key=job.key(), params={}, tags={})


def _register(evaluated, run, *, key):
    job, folder = evaluated
    plan = plan_training(job, folder.data_plan)
    images = ImageSet(60, "digest")
    return register_model(
        run.client,
        run,
        name=job.registry.model,
        key=key,
        network=plan.network.build(),
        preprocessing=plan.preprocessing.to_dict(),
        class_names=load_data_plan(folder.data_plan).class_names,
        table=ProfileTable.from_json(folder.profile_table.read_text()),
        origin=Origin(job.name, {"data": {}}, images, images),
        rules=GateConfig(),
    )


def test_the_report_lies_with_the_run_and_its_version_links_to_it(evaluated, client, run):
    job, folder = evaluated
    version = _register(evaluated, run, key=job.key())
    result = CliRunner().invoke(app, ["report", str(folder.job_file)])
    assert result.exit_code == 0, result.output
    assert version.uri in folder.report.read_text()
    assert {file.path for file in client.list_artifacts(run.run_id)} >= {"report.html", "plots"}
    shown = client.get_model_version(version.name, str(version.version))
    assert shown.tags[tags.REPORT] == f"runs:/{run.run_id}/report.html"


def test_the_champion_is_told_of_unless_it_is_the_jobs_own(evaluated, client, run):
    job, _ = evaluated
    own = _register(evaluated, run, key=job.key())
    other = _register(evaluated, run, key="another")
    client.set_registered_model_alias(own.name, "champion", str(other.version))
    assert find_standing(client, job).champion.uri == other.uri
    client.set_registered_model_alias(own.name, "champion", str(own.version))
    assert find_standing(client, job).champion is None


def test_a_job_that_never_ran_gets_no_report_and_leaves_no_trace(tmp_path):
    result = CliRunner().invoke(app, ["report", "quickstart", "--set", f"storage={tmp_path / 'runs'}"])
    assert result.exit_code == 2
    assert "measured profiles, job 'quickstart'" in " ".join(result.output.split())
    assert not (tmp_path / "runs").exists()
