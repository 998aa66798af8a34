"""Five runs of `tests.chaos`, which does fifty, on a job that is shorter still."""

import pytest

from tests.chaos import SETTINGS, endure

pytestmark = [pytest.mark.ray, pytest.mark.faults]

SHORT = {
    **SETTINGS,
    "search.epochs": 1,
    "training.epochs": 2,
    "training.warmup_epochs": 0,
    "training.workers": 1,
}
WITHIN_S = 30.0
"""The latest moment; chosen: no machine is through with the job by then."""


@pytest.mark.parametrize("seed", range(5))
def test_a_job_ends_well_whichever_of_its_processes_is_killed(seed, tmp_path):
    ordeal = endure(tmp_path / "run", seed, within_s=WITHIN_S, limit_s=240, settings=SHORT)
    assert ordeal.killed is not None
    assert not ordeal.problems, str(ordeal)
