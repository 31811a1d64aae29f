"""Tokens in chunks: the places where they end, and random tokens against the plain rule."""

import random

import pytest

from sd2rt.runtime.prompt_chunks import Token, split_chunks
from tests.runtime.prompt_rule import fill_chunks

COMMA = 44


def _lengths(*sections: list[int], size: int = 75, comma: int | None = COMMA) -> list[int]:
    return [len(chunk) for chunk in split_chunks([[Token(id) for id in section] for section in sections], size, comma)]


def _words(length: int, *commas: int) -> list[int]:
    return [COMMA if place in commas else 7 for place in range(length)]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ([], [0]),
        (_words(75), [75]),
        (_words(76), [75, 1]),
        (_words(151), [75, 75, 1]),
        (_words(76, 60), [61, 15]),
        (_words(76, 55, 20), [56, 20]),
        (_words(76, 54), [75, 1]),  # too far back
        (_words(76, 74), [75, 1]),
        (_words(76, 60, 75), [75, 1]),  # what follows is a comma itself
        (_words(75, 60), [75]),
        (_words(160, 60, 120, 134), [61, 74, 25]),
    ],
)
def test_a_chunk_ends_at_its_last_comma_where_that_is_near(section: list[int], expected: list[int]) -> None:
    assert _lengths(section) == expected


def test_sections_begin_chunks_and_none_begins_at_the_end() -> None:
    assert _lengths([7], [7, 7]) == [1, 2]
    assert _lengths([7], []) == [1]
    assert _lengths([], [7]) == [0, 1]
    assert _lengths([7], [], []) == [1, 0]
    assert _lengths([], []) == [0]
    assert _lengths(_words(75), [7]) == [75, 1]


def test_a_vocabulary_without_a_comma_has_full_chunks() -> None:
    assert _lengths(_words(76, 60), comma=None) == [75, 1]


def test_random_tokens_are_cut_by_the_rule() -> None:
    rng = random.Random(1)
    letters = {",": COMMA, "a": 1, "b": 2}
    for _ in range(2_000):
        likely = rng.choice([(1, 9, 9, 0), (1, 30, 0, 0), (1, 20, 0, 0.1), (1, 1, 1, 0.02)])
        text = rng.choices([",", "a", "b", ""], likely, k=rng.randrange(400))
        tokens = [(letter, rng.choice((1.0, 1.1))) for letter in text]
        sections: list[list[Token]] = [[]]
        for letter, weight in tokens:
            if letter:
                sections[-1].append(Token(letters[letter], weight))
            else:
                sections.append([])
        expected = [tuple(Token(letters[letter], weight) for letter, weight in chunk) for chunk in fill_chunks(tokens, 75)]
        assert split_chunks(sections, 75, COMMA) == tuple(expected), text
