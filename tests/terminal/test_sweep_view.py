"""The view of a sweep says what there is to say, at any size of the terminal."""

import io

import pytest
from rich.console import Console

from cluster.usage import Usage
from pipeline.search.sweep import EpochScore, SweepStatus, TrialStatus
from pipeline.terminal.sweep_view import Size, chosen_trials, render_sweep, sparkline

CAUSE = "RuntimeError: loss and score must stay finite, got nan and nan in epoch 2; lower the learning rate"


def trial(number, state, *scores, cause=None):
    epochs = tuple(
        EpochScore(score, score + 0.1, score - 0.1, end_s=1.0 + epoch) for epoch, score in enumerate(scores)
    )
    values = {"split": [2, 2, number + 1, 2], "training.lr": 0.1, "training.weight_decay": 10.0**-number}
    return TrialStatus(number, f"trial {number + 1}", values, state, epochs, cause)


STATUS = SweepStatus(
    "quickstart",
    num_trials=8,
    max_epochs=5,
    start_s=0.0,
    trials=(
        trial(0, "finished", 0.5, 0.6, 0.7, 0.75, 0.8),
        trial(1, "stopped", 0.4),
        trial(2, "waiting", 0.45, 0.5),
        trial(3, "failed", 0.3, cause=CAUSE),
        trial(4, "running", 0.5, 0.55),
    ),
    usage=Usage(2, 2, 0, 0),
)


def drawn(status=STATUS, width=80, height=24, now_s=100.0):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render_sweep(status, size=Size(width, height), now_s=now_s))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [12, 24, 60])
def test_it_is_never_larger_than_its_terminal(width, height):
    many = [trial(number, "stopped", 0.1) for number in range(100)]
    status = SweepStatus("quickstart", 100, 5, 0.0, tuple(many))
    for lines in (drawn(STATUS, width, height), drawn(status, width, height)):
        assert len(lines) < height
        assert max(map(len, lines)) <= width


def test_at_80_columns_it_tells_states_epochs_time_and_resources():
    head, epochs = drawn()[:2]
    told = "quickstart: 1 running, 1 waiting, 1 finished, 1 stopped, 1 failed of 8 trials"
    assert head.startswith(told)
    # 11 epochs in 100 s; 3, 3 and three times 3 are still expected.
    assert "11 of about 26 epochs · 0:01:40 gone · about 0:02:16 left" in epochs
    assert "2 of 2 CPUs in use" in drawn(width=200)[0]


def test_it_shows_every_trial_with_the_settings_that_differ():
    lines = drawn(width=100)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[3:8]}
    assert rows["5"].startswith("running ■■□□□ 2/5 0.5500 0.6500 0.4500 split [2, 2, 5, 2] weight_decay")
    assert rows["1"].startswith("best ■■■■■ 5/5 0.8000 0.9000 0.7000 split [2, 2, 1, 2] weight_decay 1")
    assert not any("lr" in row for row in rows.values())
    assert list(rows) == ["5", "1", "3", "2", "4"]


def test_a_failure_has_its_cause_as_far_as_there_is_room():
    assert drawn()[-1] == f"trial 4 failed: {CAUSE}"[:79] + "…"
    assert drawn(width=200)[-1] == f"trial 4 failed: {CAUSE}"


def test_the_best_score_so_far_is_a_line_that_rises():
    (line,) = [line for line in drawn() if line.startswith("best score so far")]
    told, curve = line.rsplit(" ", 1)
    assert told == "best score so far 0.8000 (trial 1, full 0.9000  base 0.7000)"
    assert list(curve) == sorted(curve)
    assert curve[-1] == "█"


def test_a_wide_terminal_shows_a_curve_of_every_trial():
    assert not any("score by epoch" in line for line in drawn())
    (row,) = [line for line in drawn(width=200) if line.startswith("1 ")]
    assert " ▁▃▆▇█ " in row


def test_before_the_first_epoch_no_time_is_guessed():
    status = SweepStatus("quickstart", 8, 5, 0.0, (trial(0, "running"),))
    assert "left" not in "\n".join(drawn(status))


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_of_too_many_trials_the_best_is_always_shown(limit):
    chosen = chosen_trials(STATUS, limit)
    assert len(chosen) == min(limit, 5)
    assert STATUS.trials[0] in chosen


def test_what_is_not_shown_is_counted():
    many = SweepStatus("job", 40, 5, 0.0, tuple(trial(number, "stopped", 0.1) for number in range(30)))
    assert any(line.startswith("and 27 more") for line in drawn(many, height=11))


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([0.5], 5, "█"),
        ([0.0, 1.0], 5, "▁█"),
        ([0.0, float("nan"), 1.0], 5, "▁█"),
        ([0.0, 0.2, 0.4, 1.0], 2, "▁█"),
        ([1.0, 2.0], 0, ""),
    ],
)
def test_a_sparkline_lies_between_its_lowest_and_highest_value(values, width, line):
    assert sparkline(values, width) == line
