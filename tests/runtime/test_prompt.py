"""Prompts to text states: one run of the encoder, equal prompts once, long ones reported."""

import numpy as np

from sd2rt.runtime.prompt import encode_prompts
from tests.runtime.fakes import FakeEngine, byte_tokenizer, text_states


def test_equal_prompts_are_encoded_once_and_order_is_kept() -> None:
    encoder = FakeEngine("text_encoder", text_states)
    encoded = encode_prompts(byte_tokenizer(), encoder, ["red", "blue", "red", "", ""])
    assert [feeds["input_ids"].shape for feeds in encoder.feeds] == [(3, 77)]
    assert encoded.states.shape == (5, 77, 8)
    np.testing.assert_array_equal(encoded.states[0], encoded.states[2])
    np.testing.assert_array_equal(encoded.states[3], encoded.states[4])
    assert abs(encoded.states[0] - encoded.states[1]).max() > 0.1
    alone = encode_prompts(byte_tokenizer(), encoder, ["blue"])
    np.testing.assert_array_equal(encoded.states[1:2], alone.states)
    assert encoded.cut == ()


def test_what_does_not_fit_is_reported_once() -> None:
    encoder = FakeEngine("text_encoder", text_states)
    long = "x" * 75 + " and the rest"
    assert encode_prompts(byte_tokenizer(), encoder, [long, "short", long]).cut == (" and the rest",)
