"""Options that leave work out, on the command line."""

import json

import pytest

from sd2rt.runtime.speed import PRESETS
from tests.cli.conftest import Command


def test_shallow_rows_are_told(paint: Command) -> None:
    for deep_cache, shallow in (("1", 0), ("2", 2)):
        found = json.loads(paint("a red cube", "--steps", "4", "--deep-cache", deep_cache, "--out", f"{shallow}.png", "--json").out)
        assert (found["images"][0]["deep_cache"], found["images"][0]["shallow_rows"]) == (int(deep_cache), shallow)
    with open("0.png", "rb") as whole, open("2.png", "rb") as short:
        assert whole.read() != short.read()


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ((), 4),
        (("--guidance-interval", "0.5,1"), 3),
        (("--guidance-reuse", "2"), 3),
        (("--guidance-interval", "0,0"), 2),
        (("--deep-cache", "2"), 4),
    ],
)
def test_rows_of_the_unet_are_told(options: tuple[str, ...], rows: int, paint: Command) -> None:
    found = json.loads(paint("a red cube", *options, "--out", "a.png", "--json").out)
    assert found["images"][0]["unet_rows"] == rows


def test_pictures_differ_by_what_is_left_out(paint: Command) -> None:
    options = ("--guidance-interval", "0.5,1", "--guidance-reuse", "2")
    found = [
        json.loads(paint("a red cube", "--steps", "4", *more, "--out", f"{len(more)}.png", "--json").out)["images"][0]
        for more in ((), options)
    ]
    assert [(image["guidance_interval"], image["guidance_reuse"]) for image in found] == [([0.0, 1.0], 1), ([0.5, 1.0], 2)]
    with open(found[0]["path"], "rb") as one, open(found[1]["path"], "rb") as other:
        assert one.read() != other.read()


def test_a_preset_holds_where_nothing_else_is_said(paint: Command) -> None:
    fast = PRESETS["fast"]
    assert fast is not None
    found = json.loads(paint("a red cube", "--steps", "4", "--speed", "fast", "--guidance-reuse", "3", "--out", "a.png", "--json").out)[
        "images"
    ][0]
    assert (found["steps"], found["sampler"], found["guidance_reuse"]) == (4, fast.sampler, 3)
    assert found["guidance_interval"] == list(fast.guidance_interval)


def test_a_precision_where_there_is_no_choice_is_refused(paint: Command) -> None:
    found = paint("a red cube", "--target", "cpu", "--precision", "f32", "--out", "a.png")
    assert (found.code, found.out) == (2, "")
    assert found.err.endswith("sd2rt: precision: got f32; cpu has no choice: leave it out, or use --target openvino\n")


def test_the_precision_that_was_asked_is_recorded(paint: Command) -> None:
    pytest.importorskip("openvino", reason="the openvino target needs openvino")
    found = json.loads(paint("a red cube", "--target", "openvino", "--precision", "f32", "--out", "a.png", "--json").out)
    assert found["images"][0]["precision"] == "f32"
