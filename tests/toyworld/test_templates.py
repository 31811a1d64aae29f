"""The templates: words for positions and radii, and squared errors that equal those of a plain loop over pixels."""

import numpy as np
import pytest

from sd2rt.toyworld import templates
from sd2rt.toyworld.vocabulary import COLOURS, PLACES, SHAPES, SIZES


@pytest.mark.parametrize(("radius", "size"), [(0.62, "small"), (0.8, "small"), (0.82, "large"), (1.05, "large")])
def test_a_radius_has_the_nearest_size(radius, size):
    assert templates.size_of(radius) == size


@pytest.mark.parametrize(("x", "place"), [(-1.2, "left"), (-0.5, ""), (0, ""), (0.59, ""), (0.61, "right")])
def test_a_position_has_the_nearest_place(x, place):
    assert templates.place_of(x) == place


def test_every_shape_size_and_place_has_templates():
    bank = templates.bank()
    assert {(s.shape, s.size, s.place) for s in bank.solids} == {(a, b, c) for a in SHAPES for b in SIZES for c in PLACES}
    assert bank.places.tolist() == [solid.place for solid in bank.solids]
    assert bank.cover.sum(1).min() > 20


def test_errors_are_the_squared_differences_under_the_cover():
    bank = templates.bank()
    picture = np.random.default_rng(0).random((3, templates.SIDE**2)).astype(np.float32)
    errors = bank.errors(picture)
    assert errors.shape == (len(bank.solids), len(COLOURS))
    for k in range(0, len(bank.solids), 97):
        cover = bank.cover[k]
        inside = cover > 0
        for colour, rgb in enumerate(COLOURS.values()):
            painted = (np.array(rgb)[:, None] * bank.brightness[k] + bank.highlight[k])[:, inside] / cover[inside]
            np.testing.assert_allclose(bank.paint(k)[colour][:, inside], painted * cover[inside], atol=1e-6)
            expected = (cover[inside] * (picture[:, inside] - painted) ** 2).sum()
            assert errors[k, colour] == pytest.approx(expected, rel=1e-3, abs=1e-3)
