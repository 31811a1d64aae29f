"""Find the solids in a picture and the colour of its floor. Knows no captions and not how a picture was made.

Analysis by synthesis. Every template (shape, radius, position) in every colour is compared with the picture by squared error, against
what explained those pixels so far: first the floor, in light or in shadow, and the sky. The solid that explains most is taken, and so
on until none explains enough. This is done from several starts; the best explanation with the fewest solids wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld import templates
from sd2rt.toyworld.geometry import Floats
from sd2rt.toyworld.render import empty_scene
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, PLACES

MOST_SOLIDS = 4
MIXED = "mixed"

# Measured on renders, degraded ones included: solids that are there explain 0.56 or more of the error that the empty floor leaves
# under them, and 1.0 or more of squared error; what else looks like a solid explains 0.12 or less.
_LEAST_SHARE, _LEAST_GAIN = 0.5, 0.5
# When more than this part of a solid clearly fits another colour, its colour is mixed. Renders stay below 0.19.
_CLEARLY, _MOST_OTHER = 0.02, 0.22
# One solid more must leave this much less squared error, or the picture is better explained without it.
_SOLID_COST = 12.0
_OUTLIER = 0.05  # squared error beyond which a pixel says no more against a floor's colour


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSolid:
    """A solid in the picture.

    colour: MIXED when a good part of it has another colour than the rest. x: its position across the floor, world units.
    share: the part of the error under it that it explains, 0 to 1.
    """

    shape: str
    colour: str
    size: str
    place: str
    x: float
    share: float

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape} {f'on the {self.place}' if self.place else 'in the middle'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """A picture [3, P], and the C templates that explain enough of it by themselves. All else is squared error."""

    picture: Floats
    empty: Floats  # [P], of the scene without solids
    candidates: npt.NDArray[np.intp]  # [C], which templates of the bank
    cover: Floats  # [C, P], theirs
    under: Floats  # [C], of the scene without solids under each
    template: Floats  # [C, 8], of each in each colour


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """A template in a colour, and how well it explains its part of the picture."""

    k: int
    colour: int
    share: float
    cover: Floats  # [P]
    missed: Floats  # [P], its squared error where it covers, else 0


def find_solids(image: npt.ArrayLike) -> tuple[str, tuple[FoundSolid, ...]]:
    """Find the colour of the floor and at most four solids in a picture.

    `image` is [S, S, 3] uint8 or a PIL image. Raises InvalidArgument when S is not a multiple of 32, or the image is of another kind.
    """
    picture = _shrink(image)
    floor, empty = _find_floor(picture)
    view = _look(picture, empty)
    # Two touching solids of one colour look like one between them: start from each place, and keep what explains the picture best.
    attempts = [hits for place in PLACES if (hits := _explain(view, place))] or [[]]
    hits = min(attempts, key=lambda hits: float(_error(view, hits).sum()) + _SOLID_COST * len(hits))
    return floor, tuple(_describe(picture, hits, hit) for hit in hits)


def _look(picture: Floats, empty: Floats) -> _View:
    bank = templates.bank()
    under, template = bank.cover @ empty, bank.errors(picture)
    candidates = np.flatnonzero((under - template.min(1)) >= np.maximum(_LEAST_SHARE * under, _LEAST_GAIN))
    cover, under, template = bank.cover[candidates], under[candidates], template[candidates]
    return _View(picture=picture, empty=empty, candidates=candidates, cover=cover, under=under, template=template)


def _explain(view: _View, place: str) -> list[_Hit]:
    """Take the solid that explains most, the first at one place, until none explains enough; then fit each anew beside the others."""
    at_place = templates.bank().places[view.candidates] == place
    hits: list[_Hit] = []
    while len(hits) < MOST_SOLIDS and (hit := _best(view, hits, None if hits else at_place)):
        hits.append(hit)
    for n in range(len(hits) if len(hits) > 1 else 0):
        others = hits[:n] + hits[n + 1 :]
        hits[n] = _best(view, others, None) or hits[n]
    return hits


def _best(view: _View, hits: Sequence[_Hit], allowed: npt.NDArray[np.bool_] | None) -> _Hit | None:
    """Find the solid among the allowed candidates [C] that explains most of what these leave; None when none explains enough."""
    gain = (view.cover @ _error(view, hits))[:, None] - view.template
    gain[gain < np.maximum(_LEAST_SHARE * view.under, _LEAST_GAIN)[:, None]] = 0
    if allowed is not None:
        gain[~allowed] = 0
    if not gain.any():
        return None
    row, colour = (int(i) for i in np.unravel_index(gain.argmax(), gain.shape))
    k = int(view.candidates[row])
    share = float(gain[row, colour] / view.under[row])
    return _Hit(k=k, colour=colour, share=share, cover=view.cover[row], missed=_missed(view.picture, k, slice(colour, colour + 1))[0])


def _error(view: _View, hits: Sequence[_Hit]) -> Floats:
    """Give the squared error [P] that is left when these solids stand in the scene."""
    error = view.empty
    for hit in hits:
        error = (1 - hit.cover) * error + hit.cover * hit.missed
    return error


def _describe(picture: Floats, hits: Sequence[_Hit], hit: _Hit) -> FoundSolid:
    """Put a solid in words; where others stand it is not looked at for its colour."""
    hidden = sum((other.cover for other in hits if other is not hit), np.zeros_like(hit.cover))
    seen = (hit.cover > 0.95) & (hidden == 0)  # away from the outline
    other = hit.missed > _missed(picture, hit.k, slice(None)).min(0) + _CLEARLY
    mixed = (seen & other).sum() > _MOST_OTHER * seen.sum()
    solid, name = templates.bank().solids[hit.k], MIXED if mixed else tuple(COLOURS)[hit.colour]
    return FoundSolid(shape=solid.shape, colour=name, size=solid.size, place=solid.place, x=solid.x, share=hit.share)


def _shrink(image: npt.ArrayLike) -> Floats:
    """Average a picture down to the templates' pixels: [3, P] in [0, 1]."""
    pixels = np.asarray(image)
    side = pixels.shape[0] if pixels.ndim else 0
    if pixels.dtype != np.uint8 or pixels.shape != (side, side, 3) or not side or side % templates.SIDE:
        raise InvalidArgument(
            f"cannot look for solids in an image of shape {list(pixels.shape)} and type {pixels.dtype}; "
            f"expected [S, S, 3] uint8 with S a multiple of {templates.SIDE}"
        )
    block = side // templates.SIDE
    means = pixels.reshape(templates.SIDE, block, templates.SIDE, block, 3).mean((1, 3), dtype=np.float32)
    return np.ascontiguousarray(means.reshape(-1, 3).T / np.float32(255))


def _find_floor(picture: Floats) -> tuple[str, Floats]:
    """Find the floor that explains most of a picture [3, P]: its name, and the squared error [P] of the empty scene, lit or in shadow."""
    errors = {floor: ((picture - empty_scene(floor, templates.SIDE)) ** 2).sum(1).min(0) for floor in FLOORS}
    floor = min(errors, key=lambda name: float(np.minimum(errors[name], _OUTLIER).sum()))
    return floor, errors[floor]


def _missed(picture: Floats, k: int, colours: slice) -> Floats:
    """Give the squared error [colours, P] of a template in some colours where it covers the picture, else 0."""
    bank = templates.bank()
    inverse = np.divide(1, bank.cover[k], out=np.zeros_like(bank.cover[k]), where=bank.cover[k] > 0)
    return np.asarray(((picture * (inverse > 0) - bank.paint(k, colours) * inverse) ** 2).sum(1), np.float32)
