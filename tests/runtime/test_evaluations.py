"""Which rows of a run are guided, which reuse a difference, and how many rows of the UNet that takes."""

import pytest

from sd2rt.runtime.evaluations import (
    Evaluation,
    Mode,
    Shortcuts,
    count_unet_rows,
    is_deep,
    is_uniform,
    plan_evaluations,
    used_shortcuts,
)

LETTERS = {"p": Mode.PLAIN, "g": Mode.GUIDED, "r": Mode.REUSED}


@pytest.mark.parametrize(
    ("shortcuts", "modes"),
    [
        (Shortcuts(), "gggggggggg"),
        (Shortcuts(interval=(0.2, 0.8)), "ppggggggpp"),
        (Shortcuts(interval=(0.25, 0.65)), "ppgggggppp"),
        (Shortcuts(interval=(0.0, 0.04)), "pppppppppp"),
        (Shortcuts(interval=(0.0, 0.05)), "gppppppppp"),
        (Shortcuts(interval=(0.95, 1.0)), "pppppppppg"),
        (Shortcuts(reuse=2), "grgrgrgrgr"),
        (Shortcuts(reuse=4), "grrrgrrrgr"),
        (Shortcuts(interval=(0.3, 1.0), reuse=3), "pppgrrgrrg"),
    ],
)
def test_modes_of_ten_rows(shortcuts: Shortcuts, modes: str) -> None:
    evaluations = plan_evaluations(10, guided=True, shortcuts=shortcuts)
    assert evaluations == tuple(Evaluation(mode=LETTERS[letter]) for letter in modes)
    assert count_unet_rows(evaluations) == 10 + modes.count("g")
    assert is_uniform(evaluations) is (len(set(modes)) == 1)


def test_a_run_without_guidance_has_nothing_to_leave_out() -> None:
    evaluations = plan_evaluations(4, guided=False, shortcuts=Shortcuts(interval=(0.2, 0.8), reuse=2))
    assert evaluations == (Evaluation(mode=Mode.PLAIN),) * 4


@pytest.mark.parametrize("rows", [1, 2, 7, 30])
def test_intervals_that_meet_share_the_run_between_them(rows: int) -> None:
    first, second = (plan_evaluations(rows, guided=True, shortcuts=Shortcuts(interval=half)) for half in ((0.0, 0.4), (0.4, 1.0)))
    assert sum(evaluation.mode is Mode.GUIDED for evaluation in first + second) == rows


def test_no_row_reuses_before_one_is_guided() -> None:
    for reuse in (2, 3, 9):
        for begin in (0.0, 0.3, 0.9):
            modes = [found.mode for found in plan_evaluations(9, guided=True, shortcuts=Shortcuts(interval=(begin, 1.0), reuse=reuse))]
            assert Mode.REUSED not in modes[: modes.index(Mode.GUIDED)]


@pytest.mark.parametrize(
    ("shortcuts", "shallow"),
    [
        (Shortcuts(deep_cache=1), ".........."),
        (Shortcuts(deep_cache=2), ".s.s.s.s.."),
        (Shortcuts(deep_cache=4), ".sss.sss.."),
        (Shortcuts(deep_cache=20), ".ssssssss."),
        (Shortcuts(deep_cache=4, interval=(0.2, 1.0)), ".s.sss.ss."),  # the first guided row takes what no plain one left
        (Shortcuts(deep_cache=4, interval=(0.0, 0.4)), ".sss.sss.."),
        (Shortcuts(deep_cache=3, reuse=2), ".ss..ss..."),  # rows 3 and 7 are whole for the positive prompt alone
        (Shortcuts(deep_cache=3, reuse=3), ".ss.ss.ss."),
    ],
)
def test_which_of_ten_rows_are_shallow(shortcuts: Shortcuts, shallow: str) -> None:
    evaluations = plan_evaluations(10, guided=True, shortcuts=shortcuts)
    assert "".join("s" if evaluation.shallow else "." for evaluation in evaluations) == shallow
    assert is_deep(evaluations) is ("s" in shallow)
    assert is_uniform(evaluations) is (shortcuts == Shortcuts())


@pytest.mark.parametrize("guided", [True, False])
def test_a_shallow_row_finds_all_its_rows_in_the_last_whole_one(guided: bool) -> None:
    for deep_cache in (2, 3, 5):
        for reuse in (1, 2, 3):
            plan = Shortcuts(interval=(0.25, 0.8), reuse=reuse, deep_cache=deep_cache)
            whole = 0
            for evaluation in plan_evaluations(24, guided=guided, shortcuts=plan):
                whole = whole if evaluation.shallow else evaluation.unet_rows
                assert evaluation.unet_rows <= whole


@pytest.mark.parametrize(
    ("rows", "guided", "asked", "used"),
    [
        (10, True, Shortcuts(interval=(0.2, 0.8), reuse=2, deep_cache=3), Shortcuts(interval=(0.2, 0.8), reuse=2, deep_cache=3)),
        (10, False, Shortcuts(interval=(0.2, 0.8), reuse=2, deep_cache=3), Shortcuts(deep_cache=3)),
        (2, True, Shortcuts(interval=(0.2, 0.8), deep_cache=3), Shortcuts()),
        (2, True, Shortcuts(interval=(0.5, 0.5), reuse=2), Shortcuts(interval=(0.5, 0.5))),
        (1, True, Shortcuts(reuse=2), Shortcuts()),
    ],
)
def test_shortcuts_that_change_nothing_are_as_if_not_asked_for(rows: int, guided: bool, asked: Shortcuts, used: Shortcuts) -> None:
    evaluations = plan_evaluations(rows, guided=guided, shortcuts=asked)
    assert used_shortcuts(evaluations, asked, guided=guided) == used
    assert plan_evaluations(rows, guided=guided, shortcuts=used) == evaluations
