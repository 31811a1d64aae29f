"""Rays against solids: distances worked out by hand, and two invariants of every shape."""

import numpy as np
import pytest

from sd2rt.toyworld.geometry import bounding_sphere, normal, strike
from sd2rt.toyworld.vocabulary import SHAPES


def _column(*values: float) -> np.ndarray:
    return np.array([[value] for value in values], np.float32)


@pytest.mark.parametrize(
    ("shape", "origin", "direction", "distance"),
    [
        ("sphere", (0, 1, 5), (0, 0, -1), 4.0),
        ("sphere", (0, 5, 0), (0, -1, 0), 3.0),
        ("cube", (0, 5, 0), (0, -1, 0), 5 - 1.7),
        ("cylinder", (0, 5, 0.3), (0, -1, 0), 5 - 1.9),
        ("cylinder", (0, 1, 5), (0, 0, -1), 5 - 0.8),
        ("cone", (0, 0.95, 5), (0, 0, -1), 5 - 0.4),
        ("cone", (5, 0.475, 0), (-1, 0, 0), 5 - 0.6),
        ("sphere", (0, 2.1, 5), (0, 0, -1), np.inf),
        ("cube", (0, 1.8, 5), (0, 0, -1), np.inf),
        ("cylinder", (0.9, 1, 5), (0, 0, -1), np.inf),
        ("cone", (0.5, 0.95, 5), (0, 0, -1), np.inf),
        ("cone", (0, 1, 5), (0, 0, 1), np.inf),
    ],
)
def test_a_ray_meets_a_solid_of_radius_one(shape, origin, direction, distance):
    assert strike(shape, 1.0, _column(*origin), _column(*direction)) == pytest.approx([distance], abs=1e-4)


def test_the_cube_is_turned_by_half_a_radian():
    along = _column(np.sin(0.5), 0, -np.cos(0.5))  # straight at a face
    assert strike("cube", 1.0, _column(0, 0.85, 0) - 5 * along, along) == pytest.approx([5 - 0.85], abs=1e-4)
    straight = strike("cube", 1.0, _column(0, 0.85, 5), _column(0, 0, -1))
    assert straight == pytest.approx([5 - 0.85 / np.cos(0.5)], abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "point", "expected"),
    [
        ("sphere", (0, 2, 0), (0, 1, 0)),
        ("cube", (0, 1.7, 0), (0, 1, 0)),
        ("cylinder", (0.8, 1, 0), (1, 0, 0)),
        ("cylinder", (0.3, 1.9, 0.2), (0, 1, 0)),
        ("cone", (0.4, 0.95, 0), np.array([1.9, 0.8, 0]) / np.hypot(1.9, 0.8)),
    ],
)
def test_normals_point_outward(shape, point, expected):
    assert normal(shape, 1.0, _column(*point))[:, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_hit_lies_in_the_bounding_sphere_and_faces_the_ray(shape):
    rng = np.random.default_rng(0)
    radius = 0.7
    origin = rng.normal(size=(3, 4000)).astype(np.float32)
    origin = 4 * origin / np.linalg.norm(origin, axis=0)
    origin[1] = np.abs(origin[1])
    aim = np.stack([rng.uniform(-1, 1, 4000), rng.uniform(0, 1.5, 4000), rng.uniform(-1, 1, 4000)]).astype(np.float32)
    direction = (aim - origin) / np.linalg.norm(aim - origin, axis=0)
    distance = strike(shape, radius, origin, direction)
    hit = np.isfinite(distance)
    assert 400 < hit.sum() < 3900
    point = origin[:, hit] + distance[hit] * direction[:, hit]
    height, around = bounding_sphere(shape, radius)
    assert np.linalg.norm(point - _column(0, height, 0), axis=0).max() <= around * 1.001
    facing = (normal(shape, radius, point) * direction[:, hit]).sum(0)
    assert np.quantile(facing, 0.99) < 1e-3
