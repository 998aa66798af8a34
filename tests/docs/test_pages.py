"""What the pages say exists: places, verbs and options, keys, Python; nothing is run."""

import ast
import importlib
import re

import pytest
import typer
import yaml

from docs.generate import FOLDER
from docs.generate import pages as generated
from pipeline.cli.app import app
from pipeline.config import STAND_INS, load_job, parse_job, presets, set_dotted
from tests.docs.pages import (
    DOCS,
    PAGES,
    RESULTS,
    anchors,
    blocks,
    links,
    name_of,
    prose,
    python_code,
    shell_calls,
)

VERBS = typer.main.get_command(app).commands

LINKS = [(page, link) for page in PAGES for link in links(page)]


def shown(find):
    """Return what a function finds in the text of each page, as cases that are called by their page."""
    found = [(page, value) for page in PAGES for value in find(page.read_text())]
    return [pytest.param(value, id=f"{name_of(page)}-{number}") for number, (page, value) in enumerate(found)]


def calls(text):
    return [call for code in blocks(text, "bash") for call in shell_calls(code, "skipline")]


def mentions(text):
    return [mention.split() for mention in re.findall(r"`skipline ([a-z][^`]*)`", prose(text))]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{name_of(page)}:{link}" for page, link in LINKS])
def test_every_place_that_a_page_links_to_is_there(page, link):
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    assert not heading or heading in anchors(target)


def test_the_index_has_every_page_once():
    index = DOCS / "README.md"
    linked = [(DOCS / link.partition("#")[0]).resolve() for link in links(index)]
    listed = [page for page in linked if DOCS in page.parents]
    assert sorted(listed) == sorted(set(DOCS.rglob("*.md")) - {index})


@pytest.mark.parametrize("call", shown(calls))
def test_every_command_shown_is_one_that_the_command_line_takes(call):
    verb, *arguments = call
    with VERBS[verb].make_context(verb, arguments) as context:
        given = context.params
    source = given.get("job") or given.get("preset") or "quickstart"
    # A job file of the reader's own is not here; what is set has to fit any.
    load_job(source if source in presets() else "quickstart", given.get("settings") or ())


@pytest.mark.parametrize("mention", shown(mentions))
def test_every_verb_and_option_mentioned_exists(mention):
    verb, *arguments = mention
    known = {name for param in VERBS[verb].params for name in (*param.opts, *param.secondary_opts)}
    assert {argument for argument in arguments if argument.startswith("-")} <= known | {"--help"}


@pytest.mark.parametrize("code", shown(lambda text: blocks(text, "yaml")))
def test_every_part_of_a_job_file_shown_is_valid(code):
    job = yaml.safe_load(code)
    for key, value in STAND_INS.items():
        section, _, name = key.rpartition(".")
        if name not in (job.get(section, {}) if section else job) and (section != "search" or section in job):
            set_dotted(job, key, value)
    assert parse_job(job)


@pytest.mark.parametrize("code", shown(python_code))
def test_all_python_shown_is_python_and_imports_what_exists(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pipeline"):
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("name", generated())
def test_the_reference_is_what_the_code_says(name):
    is_current = (FOLDER / name).read_text() == generated()[name]
    assert is_current, f"docs/reference/{name} is stale; `make docs` writes it anew"


def test_every_benchmark_has_a_result():
    programs = [path for path in RESULTS.parent.glob("*.py") if "\nRun:  " in path.read_text()]
    told = RESULTS.read_text()
    assert [path.stem for path in programs if f"| `{path.stem}` |" not in told] == []
