"""Weights in prompts: the web UI's examples, thousands of random prompts against the plain rule, and what weights do to states."""

import math
import random
import time
from itertools import chain, pairwise

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.prompt_weights import MAX_WEIGHT, Piece, check_weights, parse_weights, read_sections, weigh
from tests.runtime.prompt_rule import read_characters

PIECES = [
    *"()[]\\:, abx_.",
    "(",
    ")",
    ":1.3)",
    ":.5)",
    ": 2. )",
    ":-1)",
    ":1e3)",
    ":1.2.3)",
    "BREAK",
    " BREAK ",
    "xBREAK",
    "\\(",
    "\\)",
    "é\n",
]


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(24)))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("a [b", [("a ", 1), ("b", 1 / 1.1)]),
        ("un)balanced]", [("un)balanced]", 1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        (r"\\(x) \y\\", [("\\", 1), ("x", 1.1), (" \\y\\", 1)]),
        ("(un)(necessary)", [("unnecessary", 1.1)]),
        ("(a:1.3) (b: .5 ) (c:-2.) a:1.3)", [("a", 1.3), (" ", 1), ("b", 0.5), (" ", 1), ("c", -2), (" a:1.3)", 1)]),
        ("(a:b) (c:1e3) [d:1.3]", [("a:b", 1.1), (" ", 1), ("c:1e3", 1.1), (" ", 1), ("d:1.3", 1 / 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
    ],
)
def test_brackets_are_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    (section,) = parse_weights(prompt)
    assert [piece.text for piece in section] == [text for text, _ in expected]
    assert [piece.weight for piece in section] == pytest.approx([weight for _, weight in expected], rel=1e-12)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("BREAK a", [[], ["a"]]),
        ("a BREAK BREAKBREAK", [["a"], ["BREAKBREAK"]]),
        ("a, BREAK\nBREAK b BREAK", [["a,"], [], ["b"], []]),
        ("BREAKS a_BREAK break", [["BREAKS a_BREAK break"]]),
        ("(a BREAK b:1.3) c", [["a"], ["b", " c"]]),
    ],
)
def test_break_begins_a_section(prompt: str, expected: list[list[str]]) -> None:
    assert [[piece.text for piece in section] for section in parse_weights(prompt)] == expected
    if "(" in prompt:
        assert parse_weights(prompt)[1][0].weight == 1.3


def test_random_prompts_are_read_by_the_rule() -> None:
    rng = random.Random(0)
    for _ in range(10_000):
        prompt = _text(rng)
        sections = parse_weights(prompt)
        found = [[(character, piece.weight) for piece in section for character in piece.text] for section in sections]
        expected: list[list[tuple[str, float]]] = [[]]
        for character, weight in read_characters(prompt):
            if character:
                expected[-1].append((character, weight))
            else:
                expected.append([])
        assert [[one for one, _ in section] for section in found] == [[one for one, _ in section] for section in expected], prompt
        for (_, own), (_, other) in zip(chain(*found), chain(*expected), strict=True):
            assert math.isclose(own, other, rel_tol=1e-9, abs_tol=1e-300), prompt
        for section in sections:
            assert all(piece.text for piece in section)
            assert all(one.weight != other.weight for one, other in pairwise(section)), prompt


def test_the_longest_prompts_are_read_at_once() -> None:
    for prompt in (
        "(" * 8192,
        "(a" * 2730 + ")" * 2730,
        " " * 8192,
        ":" + "1" * 8191,
        ": " * 4096,
        "BREAK " * 1365,
        "[" * 4096 + "]" * 4096,
    ):
        began = time.thread_time()
        parse_weights(prompt)
        assert time.thread_time() - began < 2


def test_without_weighting_all_is_text() -> None:
    assert read_sections(r"(a) \( BREAK [b]", weighting=False) == ((Piece(r"(a) \( BREAK [b]"),),)
    assert read_sections("", weighting=False) == read_sections("", weighting=True) == ((),)


@pytest.mark.parametrize("prompt", ["(a:1000.5)", "((a:999))", "(a:-1001)", "(" * 100 + "a", f"(a:{'9' * 400})", f"((a:0):{'9' * 400})"])
def test_weights_that_no_engine_survives_are_refused(prompt: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"negative_prompt: got a weight of .* for 'a'; expected one from -1000 to 1000; take brackets"
    ):
        check_weights("negative_prompt", prompt)


@pytest.mark.parametrize("prompt", ["(a:1000)", "(a:-1000) b", "(a:0)", "", "(" * 70 + "a", ")" * 9000, "[" * 9000 + "a"])
def test_other_weights_pass(prompt: str) -> None:
    check_weights("prompt", prompt)
    assert all(abs(piece.weight) <= MAX_WEIGHT for section in parse_weights(prompt) for piece in section)


def test_states_are_multiplied_and_each_row_gets_its_mean_back() -> None:
    states = np.random.default_rng(0).normal(0.2, 1, (3, 5, 4)).astype(np.float32)
    weights = np.ones((3, 5), np.float32)
    weights[1, 2:4] = (1.5, -0.5)
    weighted = weigh(states, weights)
    np.testing.assert_array_equal(weighted[[0, 2]], states[[0, 2]])
    np.testing.assert_allclose(weighted[1].mean(), states[1].mean(), rtol=1e-5)
    np.testing.assert_allclose(
        weighted[1] / states[1], np.array([[1], [1], [1.5], [-0.5], [1]]) * np.ones(4) * weighted[1, 0, 0] / states[1, 0, 0], rtol=1e-5
    )
    assert weighted.dtype == np.float32


def test_states_without_weights_are_the_same_bits() -> None:
    states = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float16)
    assert weigh(states, np.ones((2, 5), np.float32)) is states


def test_half_precision_is_weighed_in_single() -> None:
    states = np.full((1, 2, 2), 300, np.float16)
    weighted = weigh(states, np.array([[1, 400]], np.float32))
    assert weighted.dtype == np.float16
    np.testing.assert_allclose(weighted[0, :, 0], np.array([1, 400]) * 300 / 200.5, rtol=1e-3)


def test_a_mean_that_became_nothing_stays() -> None:
    states = np.ones((1, 2, 3), np.float32)
    assert weigh(states, np.array([[1, -1]], np.float32)).tolist() == [[[1, 1, 1], [-1, -1, -1]]]
