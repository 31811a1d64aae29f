"""The axes of a grid, read from a command line."""

import pytest

from sd2rt.cli.axes import Axis, name_cell, places, read_axes, read_axis, shape, values_at
from sd2rt.cli.grid import grid
from sd2rt.cli.row_options import RowOptions
from sd2rt.engine.errors import InvalidArgument

OPTIONS = RowOptions(grid, without=("x", "y", "z", "cells", "images_per_prompt"))
ASKED = {"prompt": "a red cube", "negative_prompt": "", "seed": 7}


@pytest.mark.parametrize(
    ("text", "option", "values", "search"),
    [
        ("guidance=2,4, 7.5", "guidance_scale", ("2", "4", "7.5"), None),
        ('sampler=ddim, "euler a","dpm++ 2m, karras"', "sampler", ("ddim", "euler a", "dpm++ 2m, karras"), None),
        ("seed=1..4", "seed", ("1", "2", "3", "4"), None),
        ("--steps=5..3,20", "steps", ("5", "4", "3", "20"), None),
        ("cfg_scale=1", "guidance_scale", ("1",), None),
        ("prompt:red=red,blue,1..2", "prompt", ("red", "blue", "1..2"), "red"),
        ("prompt:a=b=c,d", "prompt", ("b=c", "d"), "a"),
        ("negative=,blurry", "negative_prompt", ("", "blurry"), None),
        ("paste=yes,no", "paste", ("yes", "no"), None),
    ],
)
def test_an_axis_is_an_option_and_its_values(text: str, option: str, values: tuple[str, ...], search: str | None) -> None:
    axis = read_axis("x", text, OPTIONS)
    assert (axis.option, axis.values, axis.search) == (option, values, search)


def axes(**said: str) -> tuple[Axis, ...]:
    return read_axes({"x": None, "y": None, "z": None, **said}, OPTIONS)


def test_cells_are_sheet_by_sheet_row_by_row() -> None:
    three = axes(x="steps=1,2", y="seed=5", z="guidance=1,2,3")
    assert shape(three) == (2, 1, 3)
    assert places(three) == [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1), (0, 0, 2), (1, 0, 2)]
    assert [name_cell(place, three) for place in places(three)[:2]] == ["z1-y1-x1", "z1-y1-x2"]
    only = axes(y="steps=1,2")
    assert [name_cell(place, only) for place in places(only)] == ["y1", "y2"]


def test_values_are_read_as_options_and_texts_are_replaced_last() -> None:
    both = axes(x="prompt:red=red,blue", y='prompt="a red cone","a dark red sphere"', z="negative=,dark")
    assert values_at((1, 1, 1), both, ASKED, OPTIONS) == {"prompt": "a dark blue sphere", "negative_prompt": "dark", "seed": 7}
    assert values_at((0, 0, 0), both, ASKED, OPTIONS) == {"prompt": "a red cone", "negative_prompt": "", "seed": 7}
    assert [axis.label(1) for axis in both] == ["blue", "a dark red sphere", "negative dark"]
    assert both[2].label(0) == "negative (none)"
    assert both[0].as_json() == {"option": "prompt", "values": ["red", "blue"], "search": "red"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "--x: got no axis; expected --x OPTION=VALUE,VALUE, such as --x guidance=2,4,7"),
        ({"x": "guidance"}, "--x: got 'guidance'; expected OPTION=VALUE,VALUE"),
        ({"y": "=1,2"}, "--y: got '=1,2'; expected OPTION=VALUE,VALUE"),
        ({"z": "colour=red"}, "--z: colour: no such option here; expected one of prompt, image"),
        ({"x": "model=a,b"}, "--x: model: no such option here"),
        ({"x": "count=1,2"}, "--x: count: no such option here"),
        ({"x": "steps="}, "--x: got ''; expected values between commas, none of them empty"),
        ({"x": "steps=1,,2"}, "--x: got '1,,2'; expected values between commas, none of them empty"),
        ({"x": 'sampler="ddim'}, "--x: got '\"ddim' (unexpected end of data); expected values between commas, in quotes"),
        ({"x": "steps:red=1"}, "--x: got 'steps:red'; expected prompt:TEXT=VALUE,VALUE, with a text that the prompt has"),
        ({"x": "prompt:=red"}, "--x: got 'prompt:'; expected prompt:TEXT=VALUE,VALUE"),
        ({"x": "seed=1..201"}, "--x: got more than 200 values; make several grids"),
        ({"x": "seed=1..4000000000"}, "--x: got more than 200 values"),
        ({"x": "steps=1,2", "y": "steps=3"}, "--x: got steps, which is another axis too; expected an option for each"),
        ({"x": "guidance=1", "z": "cfg_scale=3"}, "--x: got guidance, which is another axis too"),
        ({"x": "prompt:a=b", "z": "prompt:a=c"}, "--x: got prompt, which is another axis too"),
        ({"x": "seed=1..40", "y": "steps=1..40"}, "--y: got 1,600 cells in all; expected at most 1,000"),
    ],
)
def test_what_is_refused(said: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        axes(**said)
    assert words in str(caught.value)


def test_an_axis_of_weighting_says_what_it_means() -> None:
    both = axes(x="weighting=true,false")
    assert [values_at((x, 0, 0), both, ASKED, OPTIONS)["weighting"] for x in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"x": "prompt:green=blue"}, "--x: got 'green', which is not in the text 'a red cube'"),
        ({"x": "steps=many"}, "--x: Invalid value for '--steps': 'many' is not a valid integer."),
        ({"y": 'guidance-interval="0.2"'}, "--y: --guidance-interval: got '0.2'; expected two numbers"),
    ],
)
def test_values_that_no_option_takes_are_refused(said: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        values_at((0, 0, 0), axes(**said), ASKED, OPTIONS)
    assert words in str(caught.value)
