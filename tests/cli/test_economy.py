"""Options that leave work out, on the command line."""

import json

import pytest

from sd2rt.runtime.speed import PRESETS
from tests.cli.conftest import Command


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
    found = [json.loads(paint("a red cube", *more, "--out", f"{len(more)}.png", "--json").out)["images"][0] for more in ((), options)]
    assert [(image["guidance_interval"], image["guidance_reuse"]) for image in found] == [([0.0, 1.0], 1), ([0.5, 1.0], 2)]
    with open(found[0]["path"], "rb") as one, open(found[1]["path"], "rb") as other:
        assert one.read() != other.read()


def test_a_preset_holds_where_nothing_else_is_said(paint: Command) -> None:
    """`paint` gives two steps."""
    fast = PRESETS["fast"]
    assert fast is not None
    found = json.loads(paint("a red cube", "--speed", "fast", "--guidance-reuse", "3", "--out", "a.png", "--json").out)["images"][0]
    assert (found["steps"], found["sampler"], found["guidance_reuse"]) == (2, fast.sampler, 3)
    assert found["guidance_interval"] == list(fast.guidance_interval)
