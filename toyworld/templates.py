"""Every solid that could stand in a scene, small and without a colour: the checker's templates. Knows no captions and no pictures."""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from sd2rt.toyworld.geometry import Floats
from sd2rt.toyworld.render import Solid, relief
from sd2rt.toyworld.vocabulary import COLOURS, SHAPES, SIZES

SIDE = 32  # pixels; half a toyworld picture, which is enough to tell the shapes apart

# A little beyond what scenes are drawn from, since a painted solid may stand or swell beyond it.
_RADII = (0.56, 0.62, 0.68, 0.9, 1.0, 1.08)
_DEPTHS = (-0.25, 0.0, 0.25)
_ACROSS = np.arange(-16, 17) / 10
_PALETTE = np.array(list(COLOURS.values()), np.float32)  # [8, 3]
_PLACE_BORDER = 0.6  # half way from the middle to where solids stand on a side


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """K templates, P = SIDE * SIDE pixels, 8 colours.

    A template's colour in a pixel it covers is colour * brightness + highlight; `brightness` and `highlight` are stored times `cover`.
    """

    solids: tuple[Solid, ...]  # K; their colour means nothing
    places: npt.NDArray[np.str_]  # [K], theirs
    cover: Floats  # [K, P], 0 to 1
    brightness: Floats  # [K, P]
    highlight: Floats  # [K, P]
    power: Floats  # [K, 8], the squares of each template in each colour, summed over its cover

    def paint(self, template: int, colours: slice = slice(None)) -> Floats:
        """Give what a template looks like in some of the 8 colours, times its cover, [colours, 3, P]."""
        return np.asarray(_PALETTE[colours, :, None] * self.brightness[template] + self.highlight[template], np.float32)

    def errors(self, picture: Floats) -> Floats:
        """Give the squared error [K, 8] of each template in each colour against a picture [3, P] in [0, 1], summed over its cover."""
        cross = (self.brightness @ picture.T) @ _PALETTE.T + (self.highlight @ picture.sum(0))[:, None]
        return np.asarray((self.cover @ (picture**2).sum(0))[:, None] - 2 * cross + self.power, np.float32)


def size_of(radius: float) -> str:
    """Name the size whose radius is nearest."""
    return min(SIZES, key=lambda size: abs(SIZES[size] - radius))


def place_of(x: float) -> str:
    """Name the place nearest to a position across the floor; "" is the middle."""
    return "" if abs(x) < _PLACE_BORDER else "left" if x < 0 else "right"


@cache
def bank() -> Bank:
    """Render the templates (under a second, once a process)."""
    solids = tuple(
        Solid(shape=shape, colour="white", size=size_of(radius), place=place_of(x), x=x, z=z, radius=radius)
        for shape, radius, z, x in product(SHAPES, _RADII, _DEPTHS, _ACROSS.tolist())
    )
    cover, brightness, highlight = np.stack([relief(solid, SIDE).reshape(3, -1) for solid in solids], 1)
    inside = np.divide(1, cover, out=np.zeros_like(cover), where=cover > 0)
    power = (
        (brightness**2 * inside).sum(1)[:, None] * (_PALETTE**2).sum(1)
        + 2 * (brightness * highlight * inside).sum(1)[:, None] * _PALETTE.sum(1)
        + 3 * (highlight**2 * inside).sum(1)[:, None]
    )
    places = np.array([solid.place for solid in solids])
    return Bank(solids=solids, places=places, cover=cover, brightness=brightness, highlight=highlight, power=power)
