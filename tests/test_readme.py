"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import parse_job

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [(page, link) for page in DOCS for link in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text())]


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


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page.name}:{link}" for page, link in LINKS])
def test_every_place_that_a_page_links_to_is_there(page, link):
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE) if heading else []
    anchors = {re.sub(r"[^\w -]", "", text).strip().lower().replace(" ", "-") for text in headings}
    assert not heading or heading in anchors
