"""Ray-cast solids on a floor: image, depth along the ray, and which solid each pixel shows. Knows no captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sd2rt.toyworld import geometry
from sd2rt.toyworld.geometry import Floats
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS

SKY_INDEX, FLOOR_INDEX = -2, -1
FAR = 20.0  # depth is clipped here, world units

_EYE = np.array([[0], [1.7], [4.4]], np.float32)
_HALF_WIDTH, _TILT = 0.52, -0.27  # tangent of half the field of view, and how far the camera looks down
_LIGHT = np.array([[-0.5], [0.8], [0.45]], np.float32) / np.float32(np.sqrt(0.5**2 + 0.8**2 + 0.45**2))
# Two axes across the light: where a point's shadow ray passes, seen along the light.
_ACROSS = np.linalg.svd(_LIGHT.T)[2][1:].astype(np.float32)
_SKY = np.array([[0.75], [0.85], [0.95]], np.float32)
_AMBIENT, _DIFFUSE, _HIGHLIGHT, _SHADOW = 0.32, 0.75, 0.5, 0.35
_LIFT = 2e-3  # shadow rays start this far off the surface


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One object: words for the caption, and world units for the picture (x to the right, z towards the camera, the floor at y = 0)."""

    shape: str
    colour: str
    size: str
    place: str
    x: float
    z: float
    radius: float

    @property
    def foot(self) -> Floats:
        """Where it stands, [3, 1]."""
        return np.array([[self.x], [0], [self.z]], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What the camera sees, for S pixels a side.

    image: [S, S, 3] uint8. depth: [S, S] float32, mean distance along the rays of a pixel, at most FAR.
    index: [S, S] int8 at the pixel centre, -2 sky, -1 floor, k the k-th solid.
    """

    image: npt.NDArray[np.uint8]
    depth: Floats
    index: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """The empty scene through n x n rays, N = n * n: what every picture of that size shares."""

    direction: Floats  # [3, N]
    distance: Floats  # [N], to the floor; infinite for the sky
    ground: npt.NDArray[np.intp]  # [M], which rays meet the floor
    point: Floats  # [3, M], where they meet it
    across: Floats  # [2, M], those points seen along the light
    fog: Floats  # [N], 1 for the sky
    haze: Floats  # [3, N], the sky's colour through that fog


def render(solids: Sequence[Solid], floor: str, size: int = 64, supersample: int = 2) -> Rendering:
    """Paint solids on a floor of the named colour, `size` pixels a side, with supersample**2 rays a pixel."""
    stage = _stage(size * supersample)
    distance, index = _trace(solids, stage)
    image = _ground(floor, stage, _lit(solids, stage.point, stage.across))
    for k, solid in enumerate(solids):
        seen = np.flatnonzero(index == k)
        image[:, seen] = _paint_solid(solid, solids, stage.direction[:, seen], distance[seen])
    pixels = _pool(np.clip(image, 0, 1).reshape(3, size * supersample, -1), supersample)
    depth = _pool(np.minimum(distance, np.float32(FAR)).reshape(size * supersample, -1), supersample)
    if supersample % 2:
        index = index.reshape(size, supersample, size, supersample)[:, supersample // 2, :, supersample // 2]
    else:
        index = _trace(solids, _stage(size))[1]
    return Rendering(
        image=(pixels * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy(), depth=depth, index=index.reshape(size, size).copy()
    )


def relief(solid: Solid, size: int, supersample: int = 2) -> Floats:
    """Give what a solid standing alone does to a picture whatever its colour, [3, size, size].

    The rows are its cover (0 to 1), and its brightness and highlight times that cover: the picture becomes
    (1 - cover) * background + colour * brightness + highlight.
    """
    stage = _stage(size * supersample)
    distance, index = _trace((solid,), stage)
    seen = np.flatnonzero(index == 0)
    rays = np.zeros((3, index.size), np.float32)
    rays[0, seen] = 1
    rays[1:, seen] = _shade(solid, (solid,), stage.direction[:, seen], distance[seen])
    return _pool(rays.reshape(3, size * supersample, -1), supersample)


def empty_scene(floor: str, size: int) -> Floats:
    """Give the colours [2, 3, size * size] of a floor without solids under the sky: all of it in the light, then all in shadow."""
    stage = _stage(size)
    shadow = np.full(stage.ground.size, _SHADOW, np.float32)
    return np.stack([_ground(floor, stage, np.ones_like(shadow)), _ground(floor, stage, shadow)])


@lru_cache(maxsize=4)
def _stage(n: int) -> _Stage:
    down, right = (np.mgrid[0:n, 0:n].astype(np.float32).reshape(2, -1) + np.float32(0.5)) / n * 2 - 1
    direction = np.stack([right * _HALF_WIDTH, _TILT - down * _HALF_WIDTH, np.full_like(down, -1)]).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=0)
    distance = np.full(n * n, np.inf, np.float32)
    ground = np.flatnonzero(direction[1] < 0)
    distance[ground] = -_EYE[1] / direction[1, ground]
    point = _EYE + distance[ground] * direction[:, ground]
    fog = np.clip((distance - 6) / 14, 0, 1).astype(np.float32)
    return _Stage(direction=direction, distance=distance, ground=ground, point=point, across=_ACROSS @ point, fog=fog, haze=_SKY * fog)


def _trace(solids: Sequence[Solid], stage: _Stage) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Find the nearest hit of every camera ray: distance [N] and index [N]."""
    distance = stage.distance.copy()
    index = np.where(np.isinf(distance), np.int8(SKY_INDEX), np.int8(FLOOR_INDEX))
    for k, solid in enumerate(solids):
        height, radius = geometry.bounding_sphere(solid.shape, solid.radius)
        to_centre = solid.foot - _EYE
        to_centre[1] += height
        away = float((to_centre**2).sum())
        near = np.flatnonzero(to_centre[:, 0] @ stage.direction > max(away - radius**2, 0.0) ** 0.5)
        t = geometry.strike(solid.shape, solid.radius, _EYE - solid.foot, stage.direction[:, near])
        closer = t < distance[near]
        distance[near[closer]] = t[closer]
        index[near[closer]] = k
    return distance, index


def _lit(solids: Sequence[Solid], point: Floats, across: Floats) -> Floats:
    """Give 1 for the points [3, M] that the light reaches and _SHADOW for the others; `across` [2, M] is those points seen along it."""
    lit = np.ones(point.shape[1], np.float32)
    for solid in solids:
        height, radius = geometry.bounding_sphere(solid.shape, solid.radius)
        centre = _ACROSS @ (solid.foot + np.array([[0], [height], [0]], np.float32))
        near = np.flatnonzero(((across - centre) ** 2).sum(0) < radius**2)
        blocked = np.isfinite(geometry.strike(solid.shape, solid.radius, point[:, near] - solid.foot, _LIGHT))
        lit[near[blocked]] = _SHADOW
    return lit


def _ground(floor: str, stage: _Stage, lit: Floats) -> Floats:
    """Give the colours [3, N] of a floor with light `lit` [M] on it, fading into the sky."""
    brightness = np.zeros_like(stage.fog)
    brightness[stage.ground] = _AMBIENT + _DIFFUSE * float(_LIGHT[1, 0]) * lit
    return np.array(FLOORS[floor], np.float32)[:, None] * (brightness * (1 - stage.fog)) + stage.haze


def _paint_solid(solid: Solid, solids: Sequence[Solid], direction: Floats, distance: Floats) -> Floats:
    """Give the colours [3, M] of one solid seen along directions [3, M] at distances [M]."""
    brightness, highlight = _shade(solid, solids, direction, distance)
    return np.asarray(np.array(COLOURS[solid.colour], np.float32)[:, None] * brightness + highlight, np.float32)


def _shade(solid: Solid, solids: Sequence[Solid], direction: Floats, distance: Floats) -> tuple[Floats, Floats]:
    """Give what multiplies a solid's colour and what is added to it, [M] each (Blinn-Phong, exponent 40)."""
    point = _EYE + distance * direction
    normal = geometry.normal(solid.shape, solid.radius, point - solid.foot)
    start = point + normal * np.float32(_LIFT)
    lit = _lit(solids, start, np.asarray(_ACROSS @ start, np.float32))
    half = _LIGHT - direction
    half /= np.linalg.norm(half, axis=0)
    brightness = _AMBIENT + _DIFFUSE * np.maximum(_LIGHT[:, 0] @ normal, 0) * lit
    highlight = _HIGHLIGHT * np.maximum((normal * half).sum(0), 0) ** 40 * lit
    return brightness.astype(np.float32), highlight.astype(np.float32)


def _pool(rays: Floats, supersample: int) -> Floats:
    """Average the rays [..., n, n] of each pixel."""
    corners = [rays[..., i::supersample, j::supersample] for i in range(supersample) for j in range(supersample)]
    return np.asarray(sum(corners[1:], corners[0]) / np.float32(supersample**2), np.float32)
