"""Local folders of checkpoints do not outlive their run's workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("moved_under_test.py")
ROOT = str(SCRIPT.parents[2])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.faults
def test_a_machine_that_rank_0_has_left_is_cleared(tmp_path):
    storage, first, second = (tmp_path / name for name in ("storage", "first", "second"))
    for folder in (storage, first, second):
        folder.mkdir()
    subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, (storage, first, second))],
        env={**os.environ, "PYTHONPATH": ROOT, "RAY_USAGE_STATS_ENABLED": "0"},
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    assert (storage / "run" / "checkpoint_0002").exists()
    assert not list(first.glob("skipline-*"))
    assert not list(second.glob("skipline-*"))
