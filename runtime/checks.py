"""Checks of single values from a caller: each returns the value in its proper type, or raises InvalidArgument that names it.

Messages say what was got, what was expected and what to do.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.tokenizer import check_text

MAX_SIDE_PIXELS = 8192


def check_texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """Return one text or several as a tuple of at least one, each fit to be tokenized."""
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a text or a list of at least one text")
    for text in texts:
        check_text(name, text)
    return texts


def check_one_text(name: str, value: str) -> str:
    """Return a text of any length."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a text")
    return value


def check_integer(name: str, value: SupportsIndex, low: int, high: int | None = None) -> int:
    """Return an integer from `low` to `high` (None: no limit); numpy's count, booleans and floats do not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high) or isinstance(value, bool):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected an integer {limits}")
    return number


def check_finite(name: str, value: float, low: float, high: float) -> float:
    """Return a finite number from `low` to `high`, both of which may be infinite."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        limits = "" if high == math.inf else f" from {low:g} to {high:g}"
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a finite number{limits}")
    return number


def check_interval(name: str, value: Any) -> tuple[float, float]:
    """Return a part of the run: two numbers in order, each from 0 to 1."""
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(listed) != 2:
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected two numbers from 0 to 1: where in the run it begins and ends")
    low, high = (check_finite(name, share, 0.0, 1.0) for share in listed)
    if low > high:
        raise InvalidArgument(f"{name}: got {low:g} to {high:g}; expected the beginning before the end")
    return low, high


def check_borders(name: str, value: Any) -> tuple[int, int, int, int]:
    """Return pixels at the left, top, right and bottom, each 0 or more."""
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(listed) != 4:
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected four integers: pixels at the left, top, right and bottom")
    left, top, right, bottom = (check_integer(name, pixels, 0) for pixels in listed)
    return left, top, right, bottom


def check_side(name: str, value: SupportsIndex, factor: int) -> int:
    """Return a side in pixels: a multiple of `factor` up to MAX_SIDE_PIXELS. The message names the nearest ones."""
    pixels = check_integer(name, value, 1)
    largest = MAX_SIDE_PIXELS // factor * factor
    if pixels % factor or pixels > largest:
        below = min(max(pixels // factor * factor, factor), largest)
        nearest = dict.fromkeys((below, min(below + factor, largest)))
        raise InvalidArgument(
            f"{name}: got {pixels}; expected a multiple of {factor} up to {largest}; nearest: {' or '.join(str(side) for side in nearest)}"
        )
    return pixels
