"""What keeps a job from running on a cluster, seen before anything is sent."""

import pytest

from cluster.checks import pinned_requirements, submission_problems
from cluster.package import Package
from cluster.runtime import Capacity
from cluster.submission import Cluster, Demand
from pipeline.config import load_job
from pipeline.errors import RequestError

ROOM = Capacity(((4, 0), (8, 2)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images.parquet").write_text("x")
    (tmp_path / "space.yaml").write_text("x")
    return tmp_path


def problems(folder, *settings, grows=False, demand=None):
    job = load_job("quickstart", ["storage=/shared/runs", *settings])
    return submission_problems(job, Package.of(folder), ROOM, grows=grows, demand=demand or Demand())


def test_a_job_whose_places_all_nodes_see_is_fit(folder):
    assert problems(folder) == []
    assert (
        problems(folder, "data.train=images.parquet", "backbone.pretrained=/shared/weights.safetensors") == []
    )
    assert problems(folder, "data.train=/shared/images", "search=null") == []


@pytest.mark.parametrize(
    ("setting", "law"),
    [
        ("storage=runs", "storage of a submitted job must be one that all nodes see, got 'runs'"),
        (
            "data.train=other.parquet",
            "data.train of a submitted job must be sent with it, got 'other.parquet'",
        ),
        (
            "backbone.pretrained=w.pth",
            "backbone.pretrained of a submitted job must be sent with it, got 'w.pth'",
        ),
        ("split=[9, 1, 1, 1]", "backbone: "),
        ("training.workers=64", "training.workers must fit on the cluster at the same time, got 64 workers"),
    ],
)
def test_the_law_that_is_broken_is_named(folder, setting, law):
    (problem,) = problems(folder, setting)
    assert problem.startswith(law)


def test_what_a_growing_cluster_has_not_yet_is_no_problem(folder):
    assert problems(folder, "training.workers=64", grows=True, demand=Demand(cpus=64)) == []


def test_a_command_that_would_wait_for_ever_is_refused(folder):
    assert problems(folder, demand=Demand(cpus=8)) == []
    (problem,) = problems(folder, demand=Demand(cpus=9))
    assert problem.startswith("--driver-cpus must fit on one node, got 9; there is 2 node(s)")


def test_modules_that_would_come_before_ours_are_refused(folder):
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "train.py").write_text("")
    (folder / "cluster.py").write_text("")
    (problem,) = problems(folder)
    assert "has cluster, pipeline; name them in .rayignore" in problem
    (folder / ".rayignore").write_text("pipeline/\ncluster.py\n")
    assert problems(folder) == []


def test_requirements_are_pinned(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# of the job\nscipy==1.14.1\n\npandas == 2.2.3  # tables\n")
    assert pinned_requirements(file) == (["scipy==1.14.1", "pandas == 2.2.3"], [])
    file.write_text("scipy\npandas>=2\nnumpy==1.*\nscikit-learn==1.5.0\n-r other.txt\n")
    _, (problem,) = pinned_requirements(file)
    assert "has 'scipy', 'pandas>=2', 'numpy==1.*', '-r other.txt'; write NAME==VERSION" in problem
    _, (problem,) = pinned_requirements(tmp_path / "none.txt")
    assert "there is none at" in problem


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", "by the HTTP address of its dashboard, got 'ray://127.0.0.1:10001'"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1 does not"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(address, message):
    with pytest.raises(RequestError, match="dashboard") as failure:
        Cluster(address)
    assert message in str(failure.value)
