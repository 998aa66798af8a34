"""The tutorial, typed as it stands: all of its numbered steps, in an empty folder."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.processes import processes_in

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (DOCS / "tutorial.md").read_text()
STEPS = PAGE[PAGE.index("\n## 1. ") : PAGE.index("\n## With images of your own")]


@pytest.fixture
def typed(tmp_path):
    """What the steps printed, and the code that they ended with; all of their processes are gone."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SKIPLINE_CACHE_DIR": str(tmp_path / "cache"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    (tmp_path / "first-job").mkdir()
    with subprocess.Popen(
        ["bash", "-e", "-u", "-c", "".join(blocks(STEPS, "bash"))],
        cwd=tmp_path / "first-job",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=800)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    yield printed, shell.returncode
    for process in processes_in(tmp_path):
        process.kill()


def test_the_tutorial_leads_to_predictions_at_two_depths_a_server_and_a_champion(typed, tmp_path):
    printed, code = typed
    assert code == 0
    assert "full (8, 10)" in printed
    assert "base (8, 10)" in printed
    assert '{"predictions": [[' in printed
    assert "models:/digits/1 is the champion" in printed
    made = ("runs/digits/report.html", "small/model.safetensors")
    assert [path for path in made if not (tmp_path / "first-job" / path).exists()] == []
