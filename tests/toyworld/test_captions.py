"""Captions as text: what they ask for, what is refused, what training may not see, and what is left out at random."""

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.captions import ExpectedSolid, is_held_out, parse_caption, vary_caption, write_caption
from sd2rt.toyworld.scene import sample_scene

FULL = "a large red sphere on the left and a small blue cube on the right, gray floor"
PAIR = (
    ExpectedSolid(shape="sphere", colour="red", size="large", place="left"),
    ExpectedSolid(shape="cube", colour="blue", size="small", place="right"),
)


@pytest.mark.parametrize(
    ("text", "solids", "floor"),
    [
        (FULL, PAIR, "gray"),
        ("  A LARGE red  Sphere on the left,a small blue cube ON the right ,  gray floor. ", PAIR, "gray"),
        ("large red sphere on the left, small blue cube on the right", PAIR, None),
        ("a red sphere", (ExpectedSolid(shape="sphere", colour="red"),), None),
        ("cone", (ExpectedSolid(shape="cone"),), None),
        ("a small cone in the middle on a pink floor", (ExpectedSolid(shape="cone", size="small", place=""),), "pink"),
        ("the orange cube with a brown floor", (ExpectedSolid(shape="cube", colour="orange"),), "brown"),
        (
            "a red cube and a red cube",
            (ExpectedSolid(shape="cube", colour="red"), ExpectedSolid(shape="cube", colour="red")),
            None,
        ),
    ],
)
def test_a_caption_is_read(text, solids, floor):
    wish = parse_caption(text)
    assert wish.solids == solids
    assert wish.floor == floor


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no solid"),
        ("gray floor", "no solid"),
        ("a cat on a mat", "cat"),
        ("a red cube with a hat", "hat"),
        ("a mauve cube", "mauve"),
        ("a large small cube", "large"),
        ("a red cube on the ceiling", "ceiling"),
        ("a red cubes", "cubes"),
        ("a red cube, gray floor, pink floor", "two floors"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_word_and_an_example(text, problem):
    with pytest.raises(InvalidArgument, match=problem) as caught:
        parse_caption(text)
    assert "expected for instance" in str(caught.value)


def test_writing_is_the_inverse_of_reading():
    assert write_caption(PAIR, "gray") == FULL


@pytest.mark.parametrize(
    ("caption", "held_out"),
    [
        (FULL, False),
        ("a small purple sphere, black floor", True),
        ("a large red cube on the left and a large blue cube on the right, black floor", True),
    ],
)
def test_held_out_captions_never_change(caption, held_out):
    assert is_held_out(caption) is held_out


def test_one_caption_in_twenty_is_held_out():
    rng = np.random.default_rng(0)
    captions = {sample_scene(rng).caption for _ in range(8000)}
    assert 0.04 < sum(map(is_held_out, captions)) / len(captions) < 0.06


def test_varied_captions_leave_out_and_add_nothing():
    rng = np.random.default_rng(0)
    whole = parse_caption(FULL)
    varied = [vary_caption(FULL, rng) for _ in range(2000)]
    for wish in map(parse_caption, varied):
        assert wish.floor in (whole.floor, None)
        for part, full in zip(wish.solids, whole.solids, strict=True):
            assert (part.shape, part.colour) == (full.shape, full.colour)
            assert part.size in (full.size, None)
            assert part.place in (full.place, None)
    share = {
        "floor": np.mean(["floor" not in text for text in varied]),
        "sizes": np.mean(["large" not in text and "small" not in text for text in varied]),
        "places": np.mean(["left" not in text for text in varied]),
        "article": np.mean([not text.startswith("a ") for text in varied]),
    }
    assert share == pytest.approx({"floor": 0.3, "sizes": 0.3, "places": 0.15, "article": 0.15}, abs=0.04)
