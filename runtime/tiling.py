"""A large grid worked on in overlapping windows, one at a time, and blended: memory stays that of the result and of one window.

For decoding (latents to pixels), encoding (pixels to latents) and denoising step by step (MultiDiffusion, Bar-Tal et al. 2023).
Sizes are in cells of the input's grid. Knows no engine and no picture: the work is a function on arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rectangle of a grid."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, array: npt.NDArray[np.float32]) -> Floats:
        """Return the view of an array [..., H, W] inside the window."""
        return array[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def scaled(self, scale: Fraction) -> Window:
        """Return the same rectangle on a grid `scale` times as fine. Its sides must come out whole."""
        top, left, height, width = (int(side * scale) for side in (self.top, self.left, self.height, self.width))
        return Window(top=top, left=left, height=height, width=width)


def windows(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> tuple[Window, ...]:
    """Cover a grid with windows of one size, row by row: `tile` cells a side, or the grid's own side where that is smaller.

    They are as few as they can be with neighbours that share `overlap` cells or more, and are spread evenly. They begin at multiples of
    `multiple`, which divides all four lengths. Raises InvalidArgument unless sides are at least 1 and 0 <= overlap < tile.
    """
    if min(height, width, tile) < 1 or not 0 <= overlap < tile:
        raise InvalidArgument(
            f"tiles: got {tile} with an overlap of {overlap} on {height} x {width}; expected at least 1, and an overlap below the tile"
        )
    return tuple(
        Window(top=top, left=left, height=min(tile, height), width=min(tile, width))
        for top in _starts(height, tile, overlap, multiple)
        for left in _starts(width, tile, overlap, multiple)
    )


def shared_cells(places: tuple[Window, ...]) -> tuple[int, int]:
    """Return how many rows and columns neighbours share, where they share least; 0 where there is one row or column of windows."""
    rows = _shared([place.top for place in places], places[0].height)
    return rows, _shared([place.left for place in places], places[0].width)


def blend_weights(height: int, width: int, overlap: tuple[int, int]) -> Floats:
    """Return a window's weights, float32 [height, width] in (0, 1]: they rise from every edge as a squared sine.

    The rise takes `overlap` (rows, columns). Where two windows share so many theirs sum to 1; elsewhere (corners, neighbours that share
    a cell more, the grid's edge, where only one window lies) the sum has to be divided out.
    """
    return np.outer(_rise(height, overlap[0]), _rise(width, overlap[1])).astype(np.float32)


def run_tiled(function: Callable[[Floats], Floats], array: Floats, scale: int | Fraction, tile: int, overlap: int) -> Floats:
    """Run a function on an array [N, C, H, W] window by window and blend what it returns: float32 [N, C', H * scale, W * scale].

    `function` takes [N, C, h, w] and returns [N, C', h * scale, w * scale]. `tile` and `overlap`, the least that neighbours share, are in
    cells of the input. An array of one window goes through the function as it is. Raises InvalidArgument as `windows` does, when a
    scale of 1 / k meets sides that k does not divide, and when the function returns another size.
    """
    scale = Fraction(scale)
    height, width = array.shape[2:]
    cells = {"height": height, "width": width, "tile": tile, "overlap": overlap}
    uneven = [f"{name} {side}" for name, side in cells.items() if side % scale.denominator]
    if uneven:
        raise InvalidArgument(f"tiles: got {', '.join(uneven)} at a scale of {scale}; expected multiples of {scale.denominator}")
    places = windows(height, width, tile, overlap, scale.denominator)
    whole = Window(top=0, left=0, height=height, width=width).scaled(scale)
    part = places[0].scaled(scale)
    rows, columns = shared_cells(places)
    weights = blend_weights(part.height, part.width, (int(rows * scale), int(columns * scale)))
    total = norm = np.zeros((whole.height, whole.width), np.float32)
    for place in places:
        done = function(place.cut(array))
        if done.shape[2:] != weights.shape:
            raise InvalidArgument(f"tiles: got {list(done.shape)} from the function; expected [N, C, {part.height}, {part.width}]")
        if len(places) == 1:
            return done
        if total is norm:
            total = np.zeros((*done.shape[:2], *norm.shape), np.float32)
        target = place.scaled(scale)
        target.cut(total)[...] += weights * done
        target.cut(norm)[...] += weights
    total /= norm
    return total


def _starts(side: int, tile: int, overlap: int, multiple: int) -> tuple[int, ...]:
    if side <= tile:
        return (0,)
    gaps = -((tile - side) // (tile - overlap))  # between the windows' beginnings: one less than windows
    room = (side - tile) // multiple
    return tuple(index * room // gaps * multiple for index in range(gaps + 1))


def _shared(starts: list[int], side: int) -> int:
    ordered = sorted(set(starts))
    return min((before + side - after for before, after in pairwise(ordered)), default=0)


def _rise(side: int, overlap: int) -> npt.NDArray[np.float64]:
    """Return one axis's weights: a squared sine up over `overlap` cells, flat, and down again."""
    cells = np.arange(side) + 0.5
    distance = np.minimum(cells, side - cells)
    rise: npt.NDArray[np.float64] = np.sin(0.5 * np.pi * np.minimum(distance / max(overlap, 0.5), 1.0)) ** 2
    return rise
