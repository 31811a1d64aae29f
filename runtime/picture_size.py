"""The size at which a picture that a caller gives is painted: what is asked, else its own, less where that is too large.

Knows sizes only, no pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.checks import MAX_SIDE_PIXELS, check_side
from sd2rt.runtime.options import Request

Size = tuple[int, int]
"""Height and width in pixels."""
MOST_SQUARES = 4  # of the model's native size: beyond two by two, time and memory run away and pictures repeat themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedSize:
    """`height` and `width` are painted. With `crop` the picture keeps that size: padded to be painted, and cut back afterwards.

    `scaled_from` is what the picture had where it is scaled down without being asked to.
    """

    height: int
    width: int
    crop: Size | None = None
    scaled_from: Size | None = None

    @property
    def fitted(self) -> Size:
        """The size that the picture itself is fitted to."""
        return self.crop or (self.height, self.width)


def choose_size(asked: Request, own: Size, bundle: Bundle, *, pad: bool = False, name: str = "image") -> PaintedSize:
    """Choose for a picture of size `own`, which messages call `name`.

    One side that is asked for brings the other along, as near the picture's shape as can be. By default a picture is painted at its own
    size, down to multiples of the bundle's `size_multiple`, or with `pad` up to them and cropped, also where one side is asked for that
    it has; beyond MOST_SQUARES native sizes it is scaled down to so many pixels, by default. Raises InvalidArgument for sides that are
    no multiples or too long.
    """
    factor = bundle.size_multiple
    height, width = asked.height, asked.width
    if height is not None or width is not None:
        if height is None and width is not None:
            height = near(own[0] * check_side("width", width, factor) / own[1], factor)
        if width is None and height is not None:
            width = near(own[1] * check_side("height", height, factor) / own[0], factor)
        assert height is not None
        assert width is not None
        painted = PaintedSize(height=check_side("height", height, factor), width=check_side("width", width, factor))
        keeps_own = (asked.height, asked.width) in ((own[0], None), (None, own[1])) and max(own) <= MAX_SIDE_PIXELS
        return padded(own, factor) if pad and keeps_own else painted
    most = MOST_SQUARES * math.prod(bundle.native_size)
    scale = math.sqrt(most / math.prod(own))
    if max(own) * min(scale, 1.0) > MAX_SIDE_PIXELS:
        got = f"{name}: got {own[1]:,} x {own[0]:,} pixels (width x height)"
        raise InvalidArgument(f"{got}; expected at most {MAX_SIDE_PIXELS:,} a side: scale it down, or give width and height")
    if scale < 1.0:
        height, width = (down(side * scale, factor) for side in own)
        return PaintedSize(height=height, width=width, scaled_from=own)
    if pad:
        return padded(own, factor)
    height, width = (down(side, factor) for side in own)
    return PaintedSize(height=height, width=width)


def padded(own: Size, factor: int) -> PaintedSize:
    """Paint a picture at the multiples of `factor` at or above its sides, and crop what that adds."""
    height, width = (side + -side % factor for side in own)
    return PaintedSize(height=height, width=width, crop=None if (height, width) == own else own)


def down(side: float, factor: int) -> int:
    """Return the multiple of `factor` at or below a side, but at least one."""
    return max(int(side) // factor * factor, factor)


def near(side: float, factor: int) -> int:
    """Return the multiple of `factor` nearest to a side, but at least one."""
    return max(round(side / factor) * factor, factor)
