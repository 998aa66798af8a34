"""What a submitted job takes along: what git would, no more than is allowed, the same bytes every time."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.package import Package
from pipeline.errors import RequestError

FILES = {
    "job.yaml": "name: a",
    ".gitignore": "*.log\n!keep.log\nbuild/\n/top.txt\n",
    ".rayignore": "notes.md\n",
    "a.log": "x",
    "keep.log": "x",
    "notes.md": "x",
    "top.txt": "x",
    "build/out.bin": "x",
    "src/top.txt": "x",
    "src/.gitignore": "*.tmp\n!important.log\n",
    "src/a.tmp": "x",
    "src/important.log": "x",
    "src/code.py": "x",
    "src/__pycache__/code.pyc": "x",
    ".venv/lib/big.py": "x",
}
SENT = {
    "job.yaml",
    ".gitignore",
    ".rayignore",
    "keep.log",
    "src/top.txt",
    "src/.gitignore",
    "src/important.log",
    "src/code.py",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(package):
    return {file.path.as_posix() for file in package.files}


def test_what_ignore_files_name_stays_here(folder):
    assert names(Package.of(folder)) == SENT


def test_it_is_what_git_would_add(folder):
    (folder / ".rayignore").unlink()
    subprocess.run(["git", "init", "-q", folder], check=True)
    listed = subprocess.run(
        ["git", "-C", folder, "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    # What git leaves to its users' own settings.
    ours_alone = {"src/__pycache__/code.pyc", ".venv/lib/big.py"}
    assert names(Package.of(folder)) == set(listed) - ours_alone


def test_too_much_is_refused_with_the_largest_files(folder):
    (folder / "weights.bin").write_bytes(bytes(3 * 2**20))
    package = Package.of(folder)
    package.require_small(4 * 2**20)
    with pytest.raises(
        RequestError, match=r"at most 2\.0 MiB, .* has 3\.0 MiB in 9 files, the largest are weights\.bin"
    ):
        package.require_small(2 * 2**20)


def test_the_archive_holds_the_files_and_is_the_same_every_time(folder, tmp_path_factory):
    (folder / "run.sh").write_text("echo")
    (folder / "run.sh").chmod(0o755)
    first, second = (tmp_path_factory.mktemp("out") / "a.zip" for _ in range(2))
    Package.of(folder).write(first)
    for path in folder.rglob("*"):
        path.touch()
    Package.of(folder).write(second)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert set(archive.namelist()) == SENT | {"run.sh"}
        assert archive.read("src/code.py") == b"x"
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o111


@pytest.mark.parametrize(
    ("path", "is_sent"),
    [
        ("job.yaml", True),
        ("src", True),
        ("a.log", False),
        ("build", False),
        ("../elsewhere", False),
        ("/etc", False),
    ],
)
def test_it_knows_what_it_holds(folder, path, is_sent):
    assert Package.of(folder).contains(Path(path)) is is_sent
