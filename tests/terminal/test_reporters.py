"""What is told on a terminal, and what where there is none."""

import io

import pytest
from rich.console import Console

from pipeline.search.sweep import SweepStatus
from pipeline.terminal import Lines, LiveView, reporting_on


def console(*, is_terminal):
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=is_terminal, color_system=None)


def printed(reporter_console):
    return reporter_console.file.getvalue()


@pytest.fixture
def plain():
    return console(is_terminal=False)


def test_lines_print_facts_as_they_are(plain):
    with reporting_on(plain) as reporter:
        reporter.say("split [2, 2] is best")
    assert printed(plain) == "split [2, 2] is best\n"


def test_without_a_terminal_nothing_is_printed_that_was_not_said(plain):
    with reporting_on(plain) as reporter:
        reporter.advance("checking", 1, 2)
    assert printed(plain) == ""


def test_lines_tell_how_far_something_is_once_and_never_that_it_begins(plain):
    lines = Lines(plain, interval_s=0.0)
    for done in (0, 0, 1, 1, 1.001, 2):
        lines.advance("training", done, 4)
    assert printed(plain) == "training: 25%\ntraining: 50%\n"


def test_lines_tell_how_far_something_is_no_more_often_than_asked(plain):
    lines = Lines(plain, interval_s=3600.0)
    lines.advance("training", 1, 4)
    assert printed(plain) == ""


def test_a_terminal_shows_the_sweep_and_facts_above_it():
    terminal = console(is_terminal=True)
    with reporting_on(terminal) as reporter:
        assert isinstance(reporter, LiveView)
        with reporter.showing(lambda: SweepStatus("quickstart", 8, 5, 0.0)):
            reporter.say("trial 1/8  lr 0.1")
    text = printed(terminal)
    assert "trial 1/8  lr 0.1" in text
    assert "quickstart: none of 8 trials" in text
    # Nothing stays but the facts.
    assert text.rindex("\x1b[2K") > text.rindex("quickstart:")


def test_a_bar_shows_what_is_known_so_far():
    terminal = console(is_terminal=True)
    with reporting_on(terminal) as reporter:
        reporter.advance("training", 3, 4, "full 0.9500  base 0.9300")
    assert "full 0.9500  base 0.9300" in printed(terminal)
