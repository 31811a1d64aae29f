"""Captions as text: read what one asks for, leave parts out, hold some back from training. Knows words, not pixels."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, SHAPES, SIZES

_HELD_OUT_ONE_IN = 20
_PLACES = {"left": "left", "right": "right", "middle": "", "center": "", "centre": ""}
_SOLID = re.compile(
    rf"\b(?:an? |the )?(?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<shape>{'|'.join(SHAPES)})\b"
    rf"(?: (?:on|in|at) the (?P<place>{'|'.join(_PLACES)})\b)?"
)
_FLOOR = re.compile(rf"\b(?:(?:with|on) )?(?:an? |the )?(?P<floor>{'|'.join(FLOORS)}) floor\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSolid:
    """One object a caption asks for; None is what the caption leaves open, and `place` "" is the middle."""

    shape: str
    colour: str | None = None
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a caption asks for."""

    solids: tuple[ExpectedSolid, ...]
    floor: str | None = None


def parse_caption(text: str) -> Expectation:
    """Read a caption such as "a large red sphere on the left and a small blue cube on the right, gray floor".

    Case, spaces, commas and articles do not matter; sizes, colours, places and the floor may be missing. A caption that names no
    place leaves it open: a lone solid without one is not held to the middle.
    Raises InvalidArgument when nothing is asked for, or when words are left over that no toyworld caption has.
    """
    plain = " ".join(text.lower().replace(",", " ").replace(".", " ").split())
    floors = _FLOOR.findall(plain)
    plain = _FLOOR.sub(" ", plain)
    found = list(_SOLID.finditer(plain))
    unread = [word for word in _SOLID.sub(" ", plain).split() if word != "and"]
    if not found or unread or len(floors) > 1:
        problem = f"cannot read {' '.join(unread)!r}" if unread else "two floors" if found else "no solid"
        raise InvalidArgument(
            f"{problem} in the caption {text!r}; expected for instance 'a large red sphere on the left and a small blue cube on the right, "
            f"gray floor' (shapes {', '.join(SHAPES)}; colours {', '.join(COLOURS)}; floors {', '.join(FLOORS)})"
        )
    solids = tuple(
        ExpectedSolid(shape=m["shape"], colour=m["colour"], size=m["size"], place=None if m["place"] is None else _PLACES[m["place"]])
        for m in found
    )
    return Expectation(solids=solids, floor=floors[0] if floors else None)


def write_caption(solids: Sequence[ExpectedSolid], floor: str) -> str:
    """Write the full caption of solids whose words are all known, from left to right."""
    phrases = [f"a {s.size} {s.colour} {s.shape}" + (f" on the {s.place}" if s.place else "") for s in solids]
    return f"{' and '.join(phrases)}, {floor} floor"


def is_held_out(caption: str) -> bool:
    """Tell whether a full caption is one of the 5 % that no training run may see (the same ones on every machine, for ever)."""
    return zlib.crc32(caption.encode()) % _HELD_OUT_ONE_IN == 0


def vary_caption(caption: str, rng: np.random.Generator) -> str:
    """Leave parts of a full caption out at random (floor, sizes: 30 %; places, first article: 15 %) so that short prompts work too."""
    if rng.random() < 0.3:
        caption = re.sub(r", \w+ floor", "", caption)
    if rng.random() < 0.3:
        caption = re.sub(r"(small|large) ", "", caption)
    if rng.random() < 0.15:
        caption = re.sub(r" on the (left|right)", "", caption)
    if rng.random() < 0.15:
        caption = caption.replace("a ", "", 1)
    return caption
