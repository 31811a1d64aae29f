"""The axes of a grid: an option and its values, or a text in the prompt and what stands in its place."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from sd2rt.cli.row_options import RowOptions
from sd2rt.engine.errors import InvalidArgument

MAX_VALUES = 200  # of an axis
MAX_CELLS = 1000
TEXTS = ("prompt", "negative_prompt")
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
Place = tuple[int, int, int]
"""Where a cell is: column x, row y, sheet z, each from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`letter` is x, y or z; `option` is the runtime's name of what `said` names; `search` is replaced in the prompt, None: all changes."""

    letter: str
    said: str
    option: str
    values: tuple[str, ...]
    search: str | None = None

    def label(self, index: int) -> str:
        """Return what is written at a column or row."""
        value = self.values[index] or "(none)"
        return value if self.option == "prompt" or self.search is not None else f"{self.said} {value}"

    def as_json(self) -> dict[str, object]:
        """Return what a sheet's metadata says of the axis."""
        return {"option": self.said, "values": list(self.values), **({} if self.search is None else {"search": self.search})}


def read_axes(said: Mapping[str, str | None], options: RowOptions) -> tuple[Axis, ...]:
    """Read the axes by their letters, None for those that are not there. Raises InvalidArgument."""
    axes = tuple(read_axis(letter, text, options) for letter, text in said.items() if text is not None)
    if not axes:
        raise InvalidArgument("--x: got no axis; expected --x OPTION=VALUE,VALUE, such as --x guidance=2,4,7")
    for axis in axes:
        if any(other is not axis and (other.option, other.search) == (axis.option, axis.search) for other in axes):
            raise InvalidArgument(f"--{axis.letter}: got {axis.said}, which is another axis too; expected an option for each")
    count = prod(len(axis.values) for axis in axes)
    if count > MAX_CELLS:
        raise InvalidArgument(f"--{axes[-1].letter}: got {count:,} cells in all; expected at most {MAX_CELLS:,}")
    return axes


def read_axis(letter: str, text: str, options: RowOptions) -> Axis:
    """Read `guidance=2,4,7`, `seed=1..4` or `prompt:red=red,blue`; values with commas stand in quotes. Raises InvalidArgument."""
    name, equals, rest = text.partition("=")
    said, colon, search = name.partition(":")
    if not equals or not said.strip():
        raise InvalidArgument(f"--{letter}: got {text[:80]!r}; expected OPTION=VALUE,VALUE, such as guidance=2,4,7")
    try:
        option = options.name(said)
    except InvalidArgument as error:
        raise InvalidArgument(f"--{letter}: {error}") from None
    if colon and (option not in TEXTS or not search):
        raise InvalidArgument(f"--{letter}: got {name[:80]!r}; expected prompt:TEXT=VALUE,VALUE, with a text that the prompt has")
    values = tuple(read_values(letter, rest, ranges=option not in TEXTS))
    return Axis(letter=letter, said=said.strip().lstrip("-"), option=option, values=values, search=search if colon else None)


def read_values(letter: str, text: str, *, ranges: bool) -> Iterator[str]:
    """Yield values between commas, a range of integers such as 1..4 one by one. Raises InvalidArgument."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True, strict=True), [])]
    except csv.Error as error:
        raise InvalidArgument(
            f"--{letter}: got {text[:80]!r} ({error}); expected values between commas, in quotes where they have some"
        ) from None
    if not cells or (ranges and "" in cells):
        raise InvalidArgument(f"--{letter}: got {text[:80]!r}; expected values between commas, none of them empty")
    number = 0
    for cell in cells:
        found = RANGE.fullmatch(cell) if ranges else None
        first, last = map(int, found.groups()) if found else (0, 0)
        listed = range(first, last + (1 if first <= last else -1), 1 if first <= last else -1) if found else (cell,)
        number += len(listed)
        if number > MAX_VALUES:
            raise InvalidArgument(f"--{letter}: got more than {MAX_VALUES} values; make several grids")
        yield from map(str, listed)


def places(axes: Sequence[Axis]) -> list[Place]:
    """Return all cells, sheet by sheet, row by row."""
    counts = shape(axes)
    return [(x, y, z) for z, y, x in product(range(counts[2]), range(counts[1]), range(counts[0]))]


def shape(axes: Sequence[Axis]) -> Place:
    """Return the number of columns, rows and sheets."""
    counts = {axis.letter: len(axis.values) for axis in axes}
    return counts.get("x", 1), counts.get("y", 1), counts.get("z", 1)


def describe(place: Place, axes: Sequence[Axis]) -> str:
    """Word the values of a cell."""
    at = dict(zip("xyz", place, strict=True))
    return ", ".join(axis.label(at[axis.letter]) for axis in axes)


def name_cell(place: Place, axes: Sequence[Axis]) -> str:
    """Name a cell by its axes, from the outermost, counting from 1: z1-y2-x3."""
    at = dict(zip("xyz", place, strict=True))
    return "-".join(f"{axis.letter}{at[axis.letter] + 1}" for axis in sorted(axes, key=lambda axis: axis.letter, reverse=True))


def values_at(place: Place, axes: Sequence[Axis], asked: Mapping[str, Any], options: RowOptions) -> dict[str, Any]:
    """Return what is asked for at a place: options first, then texts in the prompt. Raises InvalidArgument."""
    at = dict(zip("xyz", place, strict=True))
    cell = dict(asked)
    for axis in sorted(axes, key=lambda axis: axis.search is not None):
        value = axis.values[at[axis.letter]]
        if axis.search is None:
            cell |= {axis.option: ""} if not value else _read(axis, value, options)
            continue
        if axis.search not in cell[axis.option]:
            raise InvalidArgument(f"--{axis.letter}: got {axis.search[:80]!r}, which is not in the text {cell[axis.option][:80]!r}")
        cell[axis.option] = cell[axis.option].replace(axis.search, value)
    return cell


def _read(axis: Axis, value: str, options: RowOptions) -> dict[str, Any]:
    try:
        return options.read({axis.said: value})
    except InvalidArgument as error:
        raise InvalidArgument(f"--{axis.letter}: {error}") from None
