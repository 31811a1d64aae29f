"""Rays against the four solids, in each solid's own frame: it stands on the plane y = 0 at the origin. Knows no camera, colour or light.

Rays are columns: origins [3, N] or [3, 1], unit directions [3, N] or [3, 1], float32.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_NEAR = 1e-3  # a ray that starts on a surface does not meet it again
_CUBE_HALF, _HEIGHT, _WIDTH = 0.85, 1.9, 0.8  # of a solid of radius 1: half the cube's edge; cylinder's and cone's height and radius
_TURN = np.array([[np.cos(0.5), 0, np.sin(0.5)], [0, 1, 0], [-np.sin(0.5), 0, np.cos(0.5)]], np.float32)  # the cube shows an edge


def bounding_sphere(shape: str, radius: float) -> tuple[float, float]:
    """Give the height of the centre and the radius of a sphere around the solid."""
    if shape == "sphere":
        return radius, radius
    if shape == "cube":
        return _CUBE_HALF * radius, _CUBE_HALF * radius * 3**0.5
    return _HEIGHT / 2 * radius, float(np.hypot(_HEIGHT / 2, _WIDTH)) * radius


def strike(shape: str, radius: float, origin: Floats, direction: Floats) -> Floats:
    """Give the distance [N] at which each ray enters the solid, infinite where it misses."""
    if shape == "sphere":
        return _strike_sphere(radius, origin, direction)
    if shape == "cube":
        return _strike_cube(radius, origin, direction)
    return _strike_round(radius, origin, direction, cone=shape == "cone")


def normal(shape: str, radius: float, point: Floats) -> Floats:
    """Give the outward unit normals [3, N] at surface points [3, N]."""
    if shape == "sphere":
        return (point - _up(radius)) / np.float32(radius)
    if shape == "cube":
        local = _TURN @ (point - _up(_CUBE_HALF * radius))
        axis = np.abs(local).argmax(0)[None]
        faces = np.zeros_like(local)
        np.put_along_axis(faces, axis, np.sign(np.take_along_axis(local, axis, 0)), 0)
        return np.asarray(_TURN.T @ faces, np.float32)
    outward = point.copy()
    if shape == "cone":
        outward[1] = _WIDTH / _HEIGHT * np.hypot(point[0], point[2])
        return np.asarray(outward / (np.linalg.norm(outward, axis=0) + 1e-6), np.float32)
    outward[1] = 0
    outward /= np.linalg.norm(outward, axis=0) + 1e-6
    outward[:, point[1] > _HEIGHT * radius * (1 - 1e-5)] = _up(1)
    return outward


def _up(height: float) -> Floats:
    return np.array([[0], [height], [0]], np.float32)


def _nonzero(a: Floats) -> Floats:
    return np.where(np.abs(a) < 1e-6, np.float32(1e-6), a)


def _entered(met: npt.NDArray[np.bool_], distance: Floats) -> Floats:
    return np.where(met & (distance > _NEAR), distance, np.float32(np.inf))


def _strike_sphere(radius: float, origin: Floats, direction: Floats) -> Floats:
    centred = origin - _up(radius)
    b = (centred * direction).sum(0)
    q = b * b - (centred * centred).sum(0) + radius * radius
    return _entered(q > 0, -b - np.sqrt(np.maximum(q, 0)))


def _strike_cube(radius: float, origin: Floats, direction: Floats) -> Floats:
    half = _CUBE_HALF * radius
    start, inverse = _TURN @ (origin - _up(half)), 1 / _nonzero(_TURN @ direction)
    one, other = (-half - start) * inverse, (half - start) * inverse
    enter, leave = np.minimum(one, other).max(0), np.maximum(one, other).min(0)
    return _entered(enter < leave, enter)


def _strike_round(radius: float, origin: Floats, direction: Floats, *, cone: bool) -> Floats:
    """Meet an upright cylinder (side and top) or cone (side): a quadratic in the distance, cut at the floor and at the full height."""
    height, width = _HEIGHT * radius, _WIDTH * radius
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    a, b, c = dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz
    if cone:
        slope = (width / height) ** 2
        below = height - oy
        a, b, c = a - slope * dy * dy, b + slope * below * dy, c - slope * below * below
    else:
        c = c - width * width
    a = _nonzero(a)
    q = b * b - a * c
    root = np.sqrt(np.maximum(q, 0))
    nearest = np.full(q.shape, np.inf, np.float32)
    for t in ((-b - root) / a, (root - b) / a):
        y = oy + t * dy
        nearest = np.minimum(nearest, _entered((q > 0) & (y > 0) & (y < height), t))
    if not cone:
        t = (height - oy) / _nonzero(dy)
        nearest = np.minimum(nearest, _entered((ox + t * dx) ** 2 + (oz + t * dz) ** 2 < width * width, t))
    return nearest
