"""The report as a browser shows it; needs a Chromium on the machine."""

import shutil

import pytest

from pipeline.report.content import gather
from pipeline.report.page import all_figures, render
from pipeline.serving.choice import choose

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")


@pytest.fixture(scope="module")
def content(evaluated):
    return gather(*evaluated)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(content, all_figures(content)))
    return path


@pytest.fixture
def opened(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("body.is-drawn", timeout=60_000)
    yield page
    page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 380)])
def test_it_draws_without_an_error_or_a_request_and_fits_its_width(browser, page_file, scheme, width):
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    requests, messages = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(page_file.as_uri())
    page.wait_for_selector("body.is-drawn", timeout=60_000)
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def _pick(page, budget, share):
    """Put the slider at a share of its way; return the profile that is shown then."""
    page.select_option("#budget", budget)
    page.eval_on_selector(
        "#limit",
        "(input, share) => { input.value = share * input.max; input.dispatchEvent(new Event('input')); }",
        share,
    )
    return page.inner_text("#picked")


def _between(values, share):
    return (1 - share) * min(values) + share * max(values)


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize(
    ("budget", "parameter", "measure"),
    [
        ("macs", "max_macs", "macs"),
        ("latency", "max_latency_ms", "latency_p95_ms"),
        ("accuracy", "min_accuracy", "top1"),
    ],
)
def test_the_slider_picks_what_a_registered_model_chooses(opened, content, budget, parameter, measure, share):
    limit = _between([getattr(result, measure) for result in content.table.results], share)
    assert _pick(opened, budget, share) == choose(content.table, (parameter, limit)).profile


def test_picking_a_row_by_keyboard_shows_what_is_skipped(opened, content):
    base = content.table.base.profile
    opened.focus(f'tr[data-profile="{base}"] button')
    opened.keyboard.press("Enter")
    assert opened.inner_text("#picked") == base
    skippable = sum(stage.num_blocks - stage.num_mandatory for stage in content.stages)
    assert opened.locator(".stage .skipped").count() == skippable > 0


def test_columns_sort_both_ways(opened, content):
    header = opened.locator("#profiles th", has_text="top-1")
    values = sorted(f"{result.top1:.4f}" for result in content.table.results)
    for expected, order in ((values, "ascending"), (values[::-1], "descending")):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == order
        assert opened.locator("#profiles tbody td:nth-child(3)").all_inner_texts() == expected
