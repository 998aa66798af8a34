import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pipeline.baselines.result import BaselineRun, Baselines
from pipeline.errors import RequestError
from pipeline.evaluation.analysis import Analysis
from pipeline.folder import JobFolder
from pipeline.report.content import Rival, gather
from pipeline.report.page import all_figures
from pipeline.report.page import render as render_page
from pipeline.report.search_figures import places

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def content(evaluated):
    return gather(*evaluated, version="models:/quickstart/1")


def render(content):
    return render_page(content, all_figures(content))


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, _, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]


def test_every_section_has_its_figures(content):
    keys = {section: [figure.key for figure in figures] for section, figures in all_figures(content).items()}
    assert keys == {
        "trade_off": ["accuracy-against-macs", "accuracy-against-latency"],
        "training": ["training-accuracy", "training-loss"],
        "depths": ["agreement", "classes", "block-changes"],
        "baselines": [],
        "search": ["trials", "settings", "importance"],
    }


def test_the_page_refers_to_nothing_outside_of_itself(content):
    links = Links(render(content)).found
    assert [link for link in links if not link.startswith(("#", "data:image/png;base64,"))] == []


def test_the_page_is_below_five_megabytes_and_shows_every_profile(content):
    page = render(content)
    assert len(page.encode()) < 5 * 2**20
    assert re.findall(r'<tr data-profile="(\w+)">', page) == [row.profile for row in content.table.results]


def test_the_head_says_what_accuracies_are_counted_on(content):
    table = replace(content.table, choices=("trial", "epoch", "statistics"))
    head, _, _ = render(replace(content, table=table)).partition("</header>")
    assert (
        f"Accuracies are those on {table.num_images} validation images that also chose the trial, the epoch "
        "and the norm statistics.</p>"
    ) in head


def test_names_of_classes_and_jobs_cannot_run_scripts(content):
    names = (EVIL, *content.data.class_names[1:])
    page = render(replace(content, data=replace(content.data, class_names=names)))
    assert EVIL not in page
    assert page.count("</script>") == 3


def test_credentials_in_the_job_file_are_masked(content):
    page = render(replace(content, job_file="registry: {tracking_uri: http://me:secret@host:5000}"))
    assert "secret" not in page
    assert "***@host:5000" in page


def test_a_job_without_search_and_analysis_has_a_shorter_page(content):
    page = render(replace(content, search=None, verdict=(), analysis=None))
    assert 'id="search"' not in page
    assert 'id="depths"' not in page


def test_the_champion_is_drawn_beside_the_network(content):
    rival = Rival("models:/quickstart/7", content.table)
    spec = all_figures(replace(content, champion=rival))["trade_off"][0].spec()
    versions = {row.get("version") for rows in spec["datasets"].values() for row in rows}
    assert "models:/quickstart/7" in versions


def test_networks_trained_alone_are_drawn_at_the_cost_of_their_depth_with_their_spread(content):
    runs = tuple(
        BaselineRun(depth, kind, seed, top1=0.8 + seed / 100, best_epoch=1, epochs=2, train_s=60.0)
        for depth in ("full", "base")
        for kind in ("alone", "adaptive")
        for seed in (0, 2)
    )
    compared = replace(content, baselines=Baselines(runs, workers=2, num_profiles=4))
    figures = all_figures(compared)
    alone = [
        row for rows in figures["trade_off"][0].spec()["datasets"].values() for row in rows if "seeds" in row
    ]
    assert [(row["depth"], row["top-1"], row["seeds"]) for row in alone] == [
        ("full", 0.81, 2),
        ("base", 0.81, 2),
    ]
    assert [row["MMACs"] for row in alone] == [
        round(result.macs / 1e6, 2) for result in (content.table.full, content.table.base)
    ]
    assert [round(row["high"] - row["low"], 4) for row in alone] == [0.0283, 0.0283]
    assert "difference +0.0000 with a standard error of 0.0000 over 2 seeds" in render(compared)


def test_figures_become_pictures(content):
    (figure, *_) = all_figures(content)["trade_off"]
    assert figure.png().startswith(b"\x89PNG")


def test_an_analysis_survives_its_file(content):
    assert Analysis.from_json(content.analysis.to_json()) == content.analysis


def test_a_job_that_is_not_evaluated_has_no_report(evaluated, tmp_path):
    job, _ = evaluated
    elsewhere = job.override({"storage": str(tmp_path)})
    with pytest.raises(RequestError, match=r"measured profiles, job 'quickstart' in .* has none yet"):
        gather(elsewhere, JobFolder.of(elsewhere))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], [0.0, 0.5, 1.0]),
        ([0.001, 0.1, 10.0], [0.0, 0.5, 1.0]),
        ([4, 4], [0.5, 0.5]),
        (["sgd", "adamw", None], [1.0, 0.0, None]),
        ([True, False], [1.0, 0.0]),
        ([None], [None]),
    ],
)
def test_values_lie_between_their_axis_ends(values, expected):
    assert places(values) == pytest.approx(expected)
