"""Prompts to text states: random ones against the plain rule, equal chunks once, contexts of one length, what is left out."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import BundleError
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.prompt import MOST_CHUNKS, Layout, Reading, Texts, choose_reading, encode, gather, lay_out
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import LENGTH, FakeEngine, byte_tokenizer, text_states
from tests.runtime.prompt_rule import fill_chunks, read_characters, weigh_chunk

PIECES = [*"()[]\\:,, ", "(", ")", ":1.3)", ":0.5)", "BREAK", " BREAK ", *("a red cube", "blue, ", "sphere " * 8, "x" * 30, "ab, " * 9)]
TOKENIZER = byte_tokenizer()
IDS = {character: TOKENIZER.encode(character)[0][0] for character in map(chr, range(32, 127))}
BEGIN, END, PAD = 256, 257, 0


def _lay_out(*images: Texts, **reading: Any) -> Layout:
    return lay_out(TOKENIZER, images, Reading(**reading))


def _by_the_rule(prompt: str) -> np.ndarray[Any, Any]:
    """Return the states [S, D] of a prompt of ASCII characters."""
    found = []
    for chunk in fill_chunks(read_characters(prompt), LENGTH - 2):
        ids = [BEGIN, *(IDS[character] for character, _ in chunk), END]
        states = text_states({"input_ids": np.array([ids + [PAD] * (LENGTH - len(ids))])})[0]
        found.append(weigh_chunk(states, [weight for _, weight in chunk]))
    return np.concatenate(found)


def test_random_prompts_give_the_states_of_the_rule() -> None:
    rng = random.Random(0)
    encoder = FakeEngine("text_encoder", text_states)
    chunks = compared = 0
    for _ in range(10_000):
        prompt = "".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        layout = _lay_out((prompt,))
        own = gather(encode(layout, encoder), layout.column(0))[0]
        encoder.feeds.clear()
        expected = _by_the_rule(prompt)
        assert own.shape == expected.shape, prompt
        scale = max(1.0, np.abs(expected).max())
        if scale < 1e3:  # a mean near nothing is restored by dividing by it
            np.testing.assert_allclose(own, expected, atol=2e-3 * scale, err_msg=prompt)
            compared += 1
        chunks = max(chunks, layout.chunks()[0])
    assert chunks >= 4
    assert compared > 9_900


def test_equal_chunks_are_encoded_once_and_order_is_kept() -> None:
    encoder = FakeEngine("text_encoder", text_states)
    layout = _lay_out(("red", ""), ("blue", "red"), ("red", ""))
    states = encode(layout, encoder)
    assert [feeds["input_ids"].shape for feeds in encoder.feeds] == [(3, 77)]
    positive, negative = gather(states, layout.column(0)), gather(states, layout.column(1))
    assert positive.shape == negative.shape == (3, 77, 8)
    np.testing.assert_array_equal(positive[0], positive[2])
    np.testing.assert_array_equal(negative[1], positive[0])
    alone = _lay_out(("blue",))
    np.testing.assert_array_equal(positive[1:2], gather(encode(alone, encoder), alone.column(0)))
    assert layout.cut == ()


def test_a_short_prompt_is_begin_text_end_and_padding() -> None:
    layout = _lay_out(("ab",))
    assert layout.ids.tolist() == [[BEGIN, IDS["a"], IDS["b"], END, *[PAD] * 73]]
    assert layout.weights.tolist() == [[1.0] * 77]
    assert _lay_out(("",)).ids.tolist() == [[BEGIN, END, *[PAD] * 75]]


def test_weights_stand_where_their_tokens_do() -> None:
    layout = _lay_out(("a(b)BREAK(c:2)",))
    np.testing.assert_allclose(layout.weights[0, :5], [1, 1, 1.1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(layout.weights[1, :3], [1, 2, 1], rtol=1e-6)
    assert _lay_out(("(b)",), weighting=False).ids[0, :5].tolist() == [BEGIN, IDS["("], IDS["b"], IDS[")"], END]


def test_an_images_texts_are_repeated_to_one_length_and_depend_on_no_other_image() -> None:
    layout = _lay_out(("a BREAK b", "c"), ("d", "e"), ("a BREAK b BREAK c", "d BREAK e"))
    assert layout.chunks() == (2, 1, 6)
    assert layout.rows[0] == ((0, 1), (3, 3))
    assert layout.rows[1] == ((2,), (4,))
    assert layout.rows[2] == ((0, 1, 3) * 2, (2, 4) * 3)
    states = np.arange(5 * 77 * 8, dtype=np.float32).reshape(5, 77, 8)
    gathered = gather(states, layout.column(0))
    assert gathered.shape == (3, 6 * 77, 8)
    np.testing.assert_array_equal(gathered[0, : 2 * 77], states[:2].reshape(-1, 8))
    assert not gathered[0, 2 * 77 :].any()
    np.testing.assert_array_equal(gathered[2], states[[0, 1, 3, 0, 1, 3]].reshape(-1, 8))


def test_engines_for_a_number_of_rows_get_one_length() -> None:
    layout = _lay_out(("a BREAK b", "c"), ("a BREAK b BREAK c", "d"), together=True)
    assert layout.chunks() == (6, 6)
    assert layout.rows[0] == ((0, 1) * 3, (2,) * 6)


def test_where_the_common_length_is_too_much_shorter_ones_are_filled_up() -> None:
    long, longer = " BREAK ".join("a" * 9), " BREAK ".join("b" * 8)
    layout = _lay_out((long, longer))
    assert layout.chunks() == (9,)
    assert layout.rows[0] == ((0,) * 9, (1,) * 8 + (2,))
    assert layout.ids[2, :2].tolist() == [BEGIN, END]
    assert _lay_out((longer, "a BREAK b BREAK c")).chunks() == (24,)


def test_a_unet_of_one_context_gets_that_and_what_is_cut_is_reported_once() -> None:
    long = "x" * 75 + " and the (rest:1.2) BREAK z"
    layout = _lay_out((long, "short"), ("short", long), most=1, fixed=True)
    assert layout.chunks() == (1, 1)
    assert layout.cut == (" and the rest z",)
    layout = _lay_out((long, "short"), ("a BREAK b BREAK c BREAK d", "e"), most=3, fixed=True)
    assert layout.chunks() == (3, 3)
    assert layout.cut == ("d",)
    assert _lay_out((long, "e"), most=2, fixed=True).cut == ("z",)


def test_more_chunks_than_any_context_has_are_cut() -> None:
    layout = _lay_out(("a BREAK " * (MOST_CHUNKS + 1) + "b",))
    assert layout.chunks() == (MOST_CHUNKS,)
    assert layout.cut == ("a b",)
    assert _lay_out(("a BREAK " * MOST_CHUNKS,)).cut == ()


@pytest.mark.parametrize(("sequence", "most", "fixed"), [("sequence", MOST_CHUNKS, False), (77, 1, True), (231, 3, True)])
def test_the_bundle_says_how_long_a_context_may_be(tmp_path: Path, sequence: Any, most: int, fixed: bool) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["components"]["unet"]["inputs"][2]["shape"] = ["batch", sequence, 8]

    reading = choose_reading(read_bundle(write_bundle(tmp_path / "small", edit)), weighting=False, together=True)
    assert reading == Reading(weighting=False, most=most, fixed=fixed, together=True)


@pytest.mark.parametrize("sequence", [76, 78])
def test_a_context_that_the_encoder_cannot_fill_is_refused(tmp_path: Path, sequence: int) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["components"]["unet"]["inputs"][2]["shape"] = ["batch", sequence, 8]

    with pytest.raises(BundleError, match=f"unet takes {sequence} text states, text_encoder gives 77; expected a multiple"):
        choose_reading(read_bundle(write_bundle(tmp_path / "small", edit)), weighting=True)
