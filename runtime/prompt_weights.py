"""Weights in prompts, written as the web UI's users write them (AUTOMATIC1111, Forge), and what they do to text states.

    (word)      1.1 times the attention; ((word)) 1.21 times, and so on
    (word:1.3)  1.3 times; a weight may be negative
    [word]      1 / 1.1 times
    \\( \\) \\[ \\]   these characters themselves, and \\\\ a backslash; before any other character a backslash is one
    BREAK       as a word by itself: what follows begins a new chunk

A bracket that is never closed counts up to the prompt's end, one that was never opened is text, and so is a weight that is no number. Round
and square brackets pair by themselves: in "(a [b) c]" both do what they would do alone. Knows no tokenizer and no engine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument

Floats = npt.NDArray[np.float32]
ROUND, SQUARE = 1.1, 1 / 1.1
MAX_WEIGHT = 1000.0  # float16 ends at 65,504, and hidden states are of the order of 10
_PARTS = re.compile(r"(\\[\\()\[\]])|([(\[])|:\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\)|([)\]])|([^\\()\[\]:]+|[\\:])")
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt without brackets, and how often its attention counts."""

    text: str
    weight: float = 1.0


Section = tuple[Piece, ...]
"""What stands between two BREAKs. Neighbours have different weights; a section may be empty."""


@dataclass(slots=True)
class _Parser:
    """What was read so far: texts, None for a BREAK, each with its weight; and where brackets are open that may be closed."""

    texts: list[str | None] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    open: dict[str, list[int]] = field(default_factory=lambda: {"(": [], "[": []})

    def add(self, text: str | None) -> None:
        self.texts.append(text)
        self.weights.append(1.0)

    def add_words(self, text: str) -> None:
        """Add a text, with what it has of BREAKs, which take the space around them away."""
        first, *others = _BREAK.split(text)
        self.add(first.rstrip() if others else first)
        for index, words in enumerate(others, 1):
            self.add(None)
            self.add(words.strip() if index < len(others) else words.lstrip())

    def weigh_from(self, first: int, weight: float) -> None:
        for index in range(first, len(self.weights)):
            self.weights[index] *= weight

    def close(self, kind: str, weight: float, text: str) -> None:
        """End the last open bracket of a kind; without one, what would end it is text."""
        if self.open[kind]:
            self.weigh_from(self.open[kind].pop(), weight)
        else:
            self.add_words(text)

    def sections(self) -> tuple[Section, ...]:
        """Join neighbours of the same weight."""
        found: list[list[Piece]] = [[]]
        for text, weight in zip(self.texts, self.weights, strict=True):
            if text is None:
                found.append([])
            elif not text:
                continue
            elif found[-1] and found[-1][-1].weight == weight:
                found[-1][-1] = Piece(found[-1][-1].text + text, weight)
            else:
                found[-1].append(Piece(text, weight))
        return tuple(tuple(section) for section in found)


def parse_weights(prompt: str) -> tuple[Section, ...]:
    """Read a prompt with brackets into the sections between its BREAKs, at least one. No prompt is wrong; see the module."""
    parser = _Parser()
    for match in _PARTS.finditer(prompt):
        escape, opening, number, closing, text = match.groups()
        if escape:
            parser.add(escape[1])
        elif opening:
            parser.open[opening].append(len(parser.texts))
        elif number:
            parser.close("(", float(number), match.group())
        elif closing:
            parser.close(*("(", ROUND) if closing == ")" else ("[", SQUARE), closing)
        else:
            parser.add_words(text)
    for kind, weight in (("(", ROUND), ("[", SQUARE)):
        for first in parser.open[kind]:
            parser.weigh_from(first, weight)
    return parser.sections()


def read_sections(prompt: str, *, weighting: bool) -> tuple[Section, ...]:
    """Return a prompt's sections; without `weighting` brackets and BREAK are text like any other."""
    return parse_weights(prompt) if weighting else ((Piece(prompt),) if prompt else (),)


def check_weights(name: str, prompt: str) -> None:
    """Raise InvalidArgument, naming the argument, for a weight that no number format of an engine would survive."""
    for piece in (piece for section in parse_weights(prompt) for piece in section):
        if not abs(piece.weight) <= MAX_WEIGHT:
            what = f"{name}: got a weight of {piece.weight:g} for {piece.text[:40]!r}; expected one from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
            raise InvalidArgument(f"{what}; take brackets away, or write \\( and \\) for ones that are text")


def weigh(states: npt.NDArray[np.floating], weights: Floats) -> npt.NDArray[np.floating]:
    """Multiply the text states [N, S, D] of every token by its weight [N, S], then bring each row back to the mean that it had.

    The rule of the web UI, whose mean is over all tokens and channels. Rows with weights of 1 stay as they are, bit by bit; a mean that
    became 0 cannot be brought back and stays.
    """
    changed = (weights != 1).any(axis=1)
    if not changed.any():
        return states
    before = states[changed].astype(np.float32)
    weighted = before * weights[changed][:, :, np.newaxis]
    was, became = (values.mean(axis=(1, 2), dtype=np.float64) for values in (before, weighted))
    factors = np.divide(was, became, out=np.ones_like(was), where=became != 0)
    result = states.copy()
    result[changed] = weighted * factors[:, np.newaxis, np.newaxis].astype(np.float32)
    return result
