"""A prompt's tokens in chunks of the text encoder's length, as the web UI cuts them (AUTOMATIC1111, Forge). Plain numbers.

A chunk ends where it is full, where a section ends (BREAK), or after its last comma: when it is full and another token follows, which is
no comma, whatever follows a comma among its last 20 tokens moves to the next chunk. A prompt has at least one chunk; a BREAK at its
very end makes none, elsewhere one that may be empty. Knows no tokenizer and no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

BACKTRACK = 20  # tokens; the web UI's default


class Token(NamedTuple):
    """An id and its weight."""

    id: int
    weight: float = 1.0


Chunk = tuple[Token, ...]


def split_chunks(sections: Iterable[Sequence[Token]], size: int, comma: int | None) -> tuple[Chunk, ...]:
    """Cut the tokens of a prompt's sections into chunks of at most `size`. `comma` is the id of a comma, None where there is none."""
    chunks: list[Chunk] = []
    for section in sections:
        rest = list(section)
        while len(rest) > size:
            end = _end(rest, size, comma)
            chunks.append(tuple(rest[:end]))
            del rest[:end]
        chunks.append(tuple(rest))
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()
    return tuple(chunks)


def _end(tokens: Sequence[Token], size: int, comma: int | None) -> int:
    """Return how many of more than `size` tokens the next chunk takes."""
    if tokens[size].id != comma:
        for index in range(size - 1, max(size - BACKTRACK, 0) - 1, -1):
            if tokens[index].id == comma:
                return index + 1
    return size
