"""Measure painters of the other tasks on scenes that no training run saw: exchange a solid, recolour a scene, enlarge a picture.

Each task has cases, which a painter gets in its own way, and a judge for what it painted of one. Knows no painter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sd2rt.toyworld.captions import is_held_out, parse_caption
from sd2rt.toyworld.checker import Report, check
from sd2rt.toyworld.geometry import Floats
from sd2rt.toyworld.render import Rendering, empty_scene
from sd2rt.toyworld.scene import Scene, render, sample_scene
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, SHAPES

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
MARGIN = 5  # pixels around a solid that a mask takes along, of 64
_LIGHT = np.linspace(0, 1, 9)  # from shadow to light on the floor
_SHADES = np.linspace(0.3, 1.1, 17)  # brightness of a solid's surface


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """A picture [S, S, 3], a mask [S, S] around its `index`-th solid, and the caption with another in that one's place."""

    image: Picture
    mask: Mask
    caption: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeVerdict:
    """Whether the new solid has all attributes asked for, whether the whole picture passes, and the PSNR in dB outside the mask."""

    solid_right: bool
    passed: bool
    outside_db: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recolouring:
    """A picture [S, S, 3] with its inverse depth [S, S], the caption of the scene in other colours, and where its solids are [S, S]."""

    image: Picture
    depth: Floats
    caption: str
    solids: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class RecolouringVerdict:
    """The checker's report, and how much the painted silhouette and the scene's have in common: intersection over union, 0 to 1."""

    report: Report
    overlap: float

    @property
    def colours_right(self) -> bool:
        """Whether every solid has the colour asked for."""
        return all(finding.right["colour"] for finding in self.report.findings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enlargement:
    """A picture [S, S, 3], the same four times as large, and its caption."""

    small: Picture
    large: Picture
    caption: str


def exchanges(count: int, seed: int = 0) -> list[Exchange]:
    """Draw cases whose new captions are held out. The new solid is as large as the old one, of another shape and colour."""
    drawn: list[Exchange] = []
    for rng, scene in _scenes(seed):
        index = int(rng.integers(len(scene.solids)))
        old = scene.solids[index]
        new = replace(old, shape=_other(rng, SHAPES, old.shape), colour=_other(rng, tuple(COLOURS), old.colour))
        caption = replace(scene, solids=(*scene.solids[:index], new, *scene.solids[index + 1 :])).caption
        if is_held_out(caption):
            drawn.append(_exchange(render(scene), index, caption))
        if len(drawn) == count:
            break
    return drawn


def judge_exchange(case: Exchange, painted: Picture) -> ExchangeVerdict:
    """Judge what was painted, [S, S, 3]."""
    report = check(painted, case.caption)
    right = all(report.findings[case.index].right.values())
    return ExchangeVerdict(solid_right=right, passed=report.passed, outside_db=psnr(painted[~case.mask], case.image[~case.mask]))


def recolourings(count: int, seed: int = 0) -> list[Recolouring]:
    """Draw cases whose new captions are held out. No solid becomes white, whose shades are those of the gray floor."""
    drawn: list[Recolouring] = []
    colours = tuple(colour for colour in COLOURS if colour != "white")
    for rng, scene in _scenes(seed):
        solids = tuple(replace(solid, colour=_other(rng, colours, solid.colour)) for solid in scene.solids)
        caption = Scene(solids=solids, floor=_other(rng, tuple(FLOORS), scene.floor)).caption
        if is_held_out(caption):
            seen = render(scene)
            drawn.append(Recolouring(image=seen.image, depth=np.reciprocal(seen.depth), caption=caption, solids=seen.index >= 0))
        if len(drawn) == count:
            break
    return drawn


def judge_recolouring(case: Recolouring, painted: Picture) -> RecolouringVerdict:
    """Judge what was painted, [S, S, 3]."""
    found = silhouette(painted, case.caption)
    overlap = (found & case.solids).sum() / (found | case.solids).sum()
    return RecolouringVerdict(report=check(painted, case.caption), overlap=float(overlap))


def silhouette(image: Picture, caption: str) -> Mask:
    """Return which pixels [S, S] look more like the caption's solids, in any light, than like its floor or the sky."""
    wish, side = parse_caption(caption), len(image)
    pixels = image.reshape(-1, 3).T.astype(np.float32) / np.float32(255)  # [3, P]
    lit, shadow = empty_scene(wish.floor or next(iter(FLOORS)), side)
    empty = _least_error(pixels, [lit * light + shadow * (1 - light) for light in _LIGHT])
    colours = [np.array(COLOURS[solid.colour or ""], np.float32)[:, None] for solid in wish.solids]
    solid = _least_error(
        pixels, [np.minimum(colour * shade + shine, 1) for colour in colours for shade in _SHADES for shine in (0, 0.1, 0.25)]
    )
    found: Mask = (solid < empty).reshape(side, side)
    return found


def _least_error(pixels: Floats, painted: Sequence[npt.NDArray[np.floating[Any]]]) -> Floats:
    """Return the least squared error [P] of pixels [3, P] to any of several colours, [3, P] or [3, 1]."""
    return np.asarray(np.min([((pixels - colour) ** 2).sum(0) for colour in painted], 0), np.float32)


def enlargements(count: int, seed: int = 0) -> list[Enlargement]:
    """Draw held-out scenes of 256 pixels, and the same at 64, each pixel the mean of 4 x 4."""
    drawn: list[Enlargement] = []
    for _, scene in _scenes(seed):
        if is_held_out(scene.caption):
            large = render(scene, 256).image
            means = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
            drawn.append(Enlargement(small=np.rint(means).astype(np.uint8), large=large, caption=scene.caption))
        if len(drawn) == count:
            break
    return drawn


def gain_over_bicubic_db(case: Enlargement, painted: Picture) -> float:
    """Return by how much what was painted, [4 S, 4 S, 3], has the higher PSNR than bicubic enlargement."""
    side = len(case.large)
    bicubic = np.asarray(Image.fromarray(case.small).resize((side, side), Image.Resampling.BICUBIC))
    return psnr(painted, case.large) - psnr(bicubic, case.large)


def psnr(got: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB of bytes; at most 99."""
    error = float(np.mean((got.astype(np.float64) - expected) ** 2))
    return min(99.0, 10 * float(np.log10(255**2 / max(error, 1e-12))))


def _scenes(seed: int) -> Iterator[tuple[np.random.Generator, Scene]]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng, sample_scene(rng)


def _other(rng: np.random.Generator, words: tuple[str, ...], but: str) -> str:
    """Draw a word that is not `but`."""
    others = [word for word in words if word != but]
    return others[rng.integers(len(others))]


def _exchange(seen: Rendering, index: int, caption: str) -> Exchange:
    rows, columns = np.nonzero(seen.index == index)
    mask = np.zeros(seen.index.shape, bool)
    if len(rows):
        mask[
            max(rows.min() - MARGIN, 0) : rows.max() + 1 + MARGIN,
            max(columns.min() - MARGIN, 0) : columns.max() + 1 + MARGIN,
        ] = True
    return Exchange(image=seen.image, mask=mask, caption=caption, index=index)
