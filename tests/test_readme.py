"""What the README shows works as it stands there; that it exists, as of all pages, tests/docs asks."""

import yaml

from pipeline.config import parse_job
from tests.docs.pages import ROOT, blocks

README = (ROOT / "README.md").read_text()


def test_the_job_file_shown_is_a_valid_one():
    (text,) = blocks(README, "yaml")
    assert parse_job(yaml.safe_load(text)).search.trials == 6


def test_the_python_door_shown_opens():
    (code,) = [code for code in blocks(README, "python") if "AdaptiveDepthNetwork" in code]
    names = {}
    exec(code, names)
    assert names["logits"].shape == (2, 10)
    assert len(names["net"].profiles) == 16
