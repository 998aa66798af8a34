"""What a shell proposes when the user presses the tab key."""

import os
import subprocess
import sys

import pytest

from pipeline.cli.completion import complete_backbone, complete_job, complete_setting, complete_space


def names(proposals):
    return [name for name, _ in proposals]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    for name in ("mine.yaml", "jobs/other.yml", "jobs/notes.txt", ".hidden.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_are_presets_and_yaml_files():
    assert names(complete_job("quick")) == ["quickstart"]
    assert names(complete_job("m")) == ["mobilenetv2", "mine.yaml"]
    assert names(complete_job("jo")) == ["jobs/"]
    assert names(complete_job("jobs/")) == ["jobs/other.yml"]


def test_spaces_are_shipped_ones_and_yaml_files():
    assert names(complete_space("re")) == ["recipe_only", "resnet"]
    assert names(complete_space("mi")) == ["mine.yaml"]


def test_backbones_are_supported_models_with_their_families():
    assert complete_backbone("resnet50.") == []
    assert ("resnet50", "ResNet") in complete_backbone("resnet50")


def test_settings_are_keys_that_want_a_value():
    assert complete_setting("training.ep") == [("training.epochs=", "passes over the training images")]


def test_the_shell_is_answered_without_slow_imports():
    script = (
        "import sys; sys.argv = ['skipline']; from pipeline.cli import main\n"
        "try: main()\n"
        "finally: print({'torch', 'ray', 'mlflow', 'boto3'} & set(sys.modules), file=sys.stderr)"
    )
    asked = {"_SKIPLINE_COMPLETE": "complete_bash", "COMP_WORDS": "skipline run quick", "COMP_CWORD": "2"}
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["quickstart"]
    assert answer.stderr.strip() == "set()"
