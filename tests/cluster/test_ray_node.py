"""The script for machines that one has, with a `ray` that only writes down how it was called and waits."""

import os
import resource
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cluster.definitions import SHELL

TOKEN = "swordfish"
RAY = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$HOME/arguments"
echo 'Ray runtime started.'
sleep 600 & wait
"""
DF = "#!/usr/bin/env bash\necho Avail; echo ${FREE_BYTES:-9999999999}\n"

pytestmark = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 8192,
    reason="this machine allows fewer open files than Ray needs",
)


@pytest.fixture
def run(tmp_path):
    """Run the script with a home of its own; afterwards nothing of it runs."""
    for name, text in {"ray": RAY, "df": DF}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)

    def call(*arguments, token=TOKEN, limit="", **variables):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), **variables}
        command = [f'{limit} exec "$0" "$@"', SHELL[0], *arguments]
        return subprocess.run(
            ["bash", "-c", *command],
            env={**own, **({"RAY_AUTH_TOKEN": token} if token else {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    yield call
    call("stop")


def folder_of(tmp_path, role):
    return tmp_path / f".cache/skipline/ray-{role}-{socket.gethostname()}"


def process_of(tmp_path, role):
    return int((folder_of(tmp_path, role) / "process").read_text().split()[0])


def test_head_has_no_cpus_and_its_dashboard_is_local(run, tmp_path):
    assert run("head").returncode == 0
    arguments = (tmp_path / "arguments").read_text().split("\n")
    assert {"--head", "--num-cpus=0", "--dashboard-host=127.0.0.1", "--labels=role=head"} <= set(arguments)


def test_worker_goes_to_the_head_with_its_labels(run, tmp_path):
    assert run("worker", "10.0.0.1", NODE_LABELS="zone=a").returncode == 0
    arguments = (tmp_path / "arguments").read_text().split("\n")
    assert {"--address=10.0.0.1:6379", "--labels=role=worker,zone=a"} <= set(arguments)


def test_a_worker_that_finds_no_route_leaves_it_to_ray_to_say_so(run, tmp_path):
    (tmp_path / "ip").write_text("#!/usr/bin/env bash\nexit 2\n")
    (tmp_path / "ip").chmod(0o700)
    assert run("worker", "10.0.0.1").returncode == 0
    assert "--address=10.0.0.1:6379" in (tmp_path / "arguments").read_text().split("\n")


def test_token_reaches_ray_in_the_environment_alone(run, tmp_path):
    run("head")
    process = Path("/proc") / str(process_of(tmp_path, "head"))
    assert f"RAY_AUTH_TOKEN={TOKEN}" in (process / "environ").read_text().split("\0")
    assert TOKEN not in (process / "cmdline").read_text()


@pytest.fixture
def other():
    """A process that the script did not start."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_stop_ends_what_it_started_and_nothing_else(run, other, tmp_path):
    run("head")
    ours = process_of(tmp_path, "head")
    assert run("stop").stdout == "head stopped\n"
    assert (
        subprocess.run(["pgrep", "--runstates", "D,R,S,T", "--session", str(ours)], check=False).returncode
        == 1
    )
    assert other.poll() is None


def test_stop_ends_no_process_that_only_has_the_same_number(run, other, tmp_path):
    folder_of(tmp_path, "head").mkdir(parents=True)
    (folder_of(tmp_path, "head") / "process").write_text(f"{other.pid} 1\n")
    assert run("stop").stdout == ""
    assert other.poll() is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"token": None}, "a cluster needs a token"),
        ({"limit": "ulimit -n 1024;"}, "Ray needs 8192 open files, the limit is 1024"),
        ({"FREE_BYTES": "1000"}, "Ray needs 2147483648 bytes in /dev/shm, 1000 are free"),
    ],
)
def test_what_a_machine_lacks_is_said_before_the_start(run, settings, problem):
    ended = run("head", **settings)
    assert ended.returncode == 2
    assert problem in ended.stderr


@pytest.mark.parametrize(("mode", "code"), [(0o600, 0), (0o400, 0), (0o644, 2), (0o640, 2)])
def test_token_file_is_its_owners_alone(run, tmp_path, mode, code):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(mode)
    assert run("head", token=None, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")).returncode == code


def test_a_second_head_is_refused(run):
    run("head")
    assert "a head of this user runs already" in run("head").stderr


@pytest.mark.parametrize("arguments", [[], ["worker"], ["head", "x"], ["start"]])
def test_a_wrong_call_is_told_the_right_one(run, arguments):
    assert "usage: ray_node.sh head | worker HEAD_ADDRESS [ARGUMENT...] | stop" in run(*arguments).stderr
