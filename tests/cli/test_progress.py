"""The line that says how far a loop is."""

import os

import pytest

from sd2rt.cli import progress
from sd2rt.cli.progress import ProgressLine, columns, duration_text, rate_text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(progress, "columns", lambda: 80)
    return now


def show(line: ProgressLine, clock: list[float], rounds: list[float], total: int) -> None:
    for done, seconds in enumerate(rounds, 1):
        clock[0] += seconds
        line(done, total)


def test_the_line_has_a_bar_the_speed_and_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    show(ProgressLine("step"), clock, [5.0, 2.0, 2.0], 6)
    lines = capsys.readouterr().err.split("\r")
    assert lines[1:] == [
        "step 1/6 [###-----------------] 5.00 s/it, 25 s left\033[K",
        "step 2/6 [######--------------] 2.00 s/it, 8 s left\033[K",
        "step 3/6 [##########----------] 2.00 s/it, 6 s left\033[K",
    ]


def test_what_follows_the_loop_counts_as_left_and_the_end_has_none(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    show(ProgressLine("row 1/3, step", after_s=100), clock, [1.0, 1.0], 2)
    show(ProgressLine("row 3/3, step"), clock, [1.0, 1.0], 2)
    lines = capsys.readouterr().err.split("\r")
    assert lines[2] == "row 1/3, step 2/2 [####################] 1.00 s/it, 1 min 40 s left\033[K"
    assert lines[4] == "row 3/3, step 2/2 [####################] 1.00 s/it\033[K"


def test_fast_rounds_are_not_all_drawn_but_the_last_is(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    show(ProgressLine("step"), clock, [0.001] * 100, 100)
    drawn = capsys.readouterr().err.split("\r")[1:]
    assert 2 <= len(drawn) <= 4
    assert drawn[-1].startswith("step 100/100 [####################] 1000.0 it/s")


@pytest.mark.parametrize(("width", "words"), [(40, "step 1/2 1.00 s/it, 1 s left"), (12, "step 1/2 1.")])
def test_a_narrow_terminal_gets_what_fits(
    width: int, words: str, clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "columns", lambda: width)
    show(ProgressLine("step"), clock, [1.0], 2)
    assert capsys.readouterr().err == f"\r{words}\033[K"


def test_columns_are_those_of_the_terminal_or_80(monkeypatch: pytest.MonkeyPatch) -> None:
    assert columns() == 80  # pytest's stderr is none
    monkeypatch.setattr("sys.stderr.fileno", lambda: 2, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((132, 40)))
    assert columns() == 132


@pytest.mark.parametrize(
    ("times", "expected"),
    [([0.0, 0.5], "2.0 it/s"), ([0.0, 5.0, 5.25], "4.0 it/s"), ([0.0, 30.0, 40.0, 50.0], "10.00 s/it"), ([0.0, 0.0], "1000000000.0 it/s")],
)
def test_rate_leaves_the_first_round_out(times: list[float], expected: str) -> None:
    assert rate_text(times) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "1 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3600, "1 h 0 min"), (12_000, "3 h 20 min")],
)
def test_durations_in_words(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected
