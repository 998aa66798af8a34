"""The harness of the benchmarks: which way a ratio points, and what is published."""

from tests.benchmarks.paired import COLUMNS, Comparison, compare, render

TWICE_AS_FAST = Comparison(
    "loop",
    "new",
    "old",
    ours_s=(1.0, 2.0, 1.0),
    other_s=(2.0, 4.0, 3.0),
    ours_cpu_s=(1.0, 1.0, 2.0),
    other_cpu_s=(2.0, 1.5, 2.0),
)


def test_ratio_above_one_means_that_ours_is_faster():
    assert TWICE_AS_FAST.ratios == (2.0, 2.0, 3.0)


def test_row_holds_medians_in_milliseconds_and_the_spread_of_ratios():
    row = ["loop", "new: 1000.0", "old: 3000.0", "2.00", "2.00 to 3.00", "1.50", "1.00 to 2.00"]
    assert TWICE_AS_FAST.row() == row


def test_comparison_without_cpu_times_leaves_their_cells_empty():
    assert Comparison("a", "b", "c", (1.0,), (1.0,)).row()[-2:] == ["", ""]


def test_both_ways_run_in_every_round_and_take_turns_in_going_first():
    calls = []
    compare("order", ("a", lambda: calls.append("a")), ("b", lambda: calls.append("b")), rounds=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_rounds_of_a_comparison_belong_to_their_way():
    result = compare("count", ("a", lambda: None), ("b", lambda: None), rounds=7)
    assert (len(result.ours_s), len(result.other_s), len(result.ratios)) == (7, 7, 7)


def test_section_names_command_commit_and_every_measurement():
    section = render(
        "Loops", "2026-01-31", "abc1234", "python -m loops", [COLUMNS, TWICE_AS_FAST.row()], ["A note."]
    )
    title, origin, columns, _, row, note = [line for line in section.splitlines() if line]
    assert title == "## Loops (2026-01-31)"
    assert origin.startswith("`python -m loops` at abc1234, ")
    assert columns == "| comparison | ours (ms) | other (ms) | times faster | spread | by CPU time | spread |"
    assert row == "| loop | new: 1000.0 | old: 3000.0 | 2.00 | 2.00 to 3.00 | 1.50 | 1.00 to 2.00 |"
    assert note == "- A note."
