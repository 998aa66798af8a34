"""A check that fails hides no other, one that hangs is ended, and clocks are judged by what S3 bears."""

import threading
from email.utils import formatdate

import pytest

from pipeline.doctor import findings
from pipeline.doctor.clock import judge_clock
from pipeline.doctor.findings import Check, Doubt, NotNeededError, Problem, examine

NOW_S = 1_800_000_000.0


def failing():
    raise Problem("it is broken", "mend it")


def doubtful():
    raise Doubt("it is odd", "look at it")


def not_needed():
    raise NotNeededError("there is none")


def verdicts(*checks):
    return [(one.check, one.verdict) for one in examine(checks)]


def test_a_failed_check_hides_only_those_that_need_it():
    fine = lambda: "fine"  # noqa: E731
    assert verdicts(
        Check("store", failing),
        Check("runs", fine, needs=("store",)),
        Check("files", fine, needs=("runs",)),
        Check("storage", fine),
        Check("clock", doubtful),
        Check("time zone", fine, needs=("clock",)),
        Check("cluster", not_needed),
        Check("nodes", fine, needs=("cluster",)),
    ) == [
        ("store", "failed"),
        ("runs", "skipped"),
        ("files", "skipped"),
        ("storage", "passed"),
        ("clock", "warning"),
        ("time zone", "passed"),
        ("cluster", "skipped"),
        ("nodes", "skipped"),
    ]


def test_a_failure_comes_with_its_fix_and_a_skipped_check_with_its_reason():
    failed, skipped = examine([Check("store", failing), Check("runs", failing, needs=("store",))])
    assert (failed.detail, failed.fix) == ("it is broken", "mend it")
    assert skipped.detail == "cannot be looked at without: store"


def test_a_check_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(findings, "CHECK_TIMEOUT_S", 0.05)
    (finding,) = examine([Check("store", lambda: str(threading.Event().wait(5)))])
    assert (finding.verdict, finding.detail) == ("failed", "no answer within 0.05 s")


def test_what_nobody_foresaw_is_a_finding_without_credentials():
    def unforeseen():
        raise RuntimeError("at http://user:secret@host")

    (finding,) = examine([Check("store", unforeseen)])
    assert (finding.verdict, finding.detail) == ("failed", "RuntimeError: at http://***@host")


def judged(skew_s):
    return judge_clock(formatdate(NOW_S + skew_s), start_s=NOW_S, end_s=NOW_S + 0.2, whose="S3")


@pytest.mark.parametrize("skew_s", [0, 29, -29])
def test_clocks_that_agree_pass(skew_s):
    assert "between this machine's clock and that of S3" in judged(skew_s)


@pytest.mark.faults
@pytest.mark.parametrize("skew_s", [60, -60, 890])
def test_a_clock_that_is_wrong_is_doubted(skew_s):
    with pytest.raises(Doubt, match="s between this machine's clock and that of S3"):
        judged(skew_s)


@pytest.mark.faults
@pytest.mark.parametrize("skew_s", [910, -910])
def test_a_clock_that_s3_refuses_is_a_problem_with_its_fix(skew_s):
    with pytest.raises(Problem, match="S3 refuses requests from 900 s on") as caught:
        judged(skew_s)
    assert not isinstance(caught.value, Doubt)
    assert "NTP" in caught.value.fix


def test_a_server_that_says_no_time_is_not_judged():
    with pytest.raises(NotNeededError, match="S3 sends no Date header"):
        judge_clock(None, start_s=NOW_S, end_s=NOW_S, whose="S3")
