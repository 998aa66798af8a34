"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import parse_job

README = (Path(__file__).parents[1] / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_job_file_shown_is_a_valid_one():
    (text,) = _blocks("yaml")
    assert parse_job(yaml.safe_load(text)).search.trials == 6


def test_the_python_door_shown_opens():
    (code,) = [block for block in _blocks("python") if "AdaptiveDepthNetwork" in block]
    names = {}
    exec(code, names)
    assert names["logits"].shape == (2, 10)
    assert len(names["net"].profiles) == 16


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_every_file_the_readme_links_to_is_there(path):
    assert (Path(__file__).parents[1] / path.partition("#")[0]).exists()
