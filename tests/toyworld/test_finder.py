"""Finding solids in pictures whose content is known, easy and hard."""

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.finder import MIXED, find_solids
from sd2rt.toyworld.render import Solid, render
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, SHAPES, SIZES


def _solid(shape: str, colour: str, size: str, x: float, z: float = 0.0) -> Solid:
    place = "" if abs(x) < 0.6 else "left" if x < 0 else "right"
    return Solid(shape=shape, colour=colour, size=size, place=place, x=x, z=z, radius=SIZES[size])


def _words(solids) -> set[tuple[str, str, str, str]]:
    return {(s.shape, s.colour, s.size, s.place) for s in solids}


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("count", range(4))
def test_any_number_of_solids_is_found(floor, count):
    solids = (_solid("cone", "cyan", "small", -1.3), _solid("sphere", "red", "small", 0), _solid("cube", "white", "small", 1.3))[:count]
    found_floor, found = find_solids(render(solids, floor).image)
    assert found_floor == floor
    assert _words(found) == _words(solids)
    for solid in found:
        assert 0.5 < solid.share <= 1.01
        assert min(abs(solid.x - s.x) for s in solids) < 0.11


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("left", "right"), [("cube", "cube"), ("cube", "cylinder"), ("cylinder", "cube"), ("sphere", "sphere")])
def test_touching_large_solids_of_one_colour_are_two(colour, left, right):
    solids = (_solid(left, colour, "large", -1.03), _solid(right, colour, "large", 1.03))
    assert _words(find_solids(render(solids, "gray").image)[1]) == _words(solids)


def test_a_solid_half_hidden_behind_another_is_found():
    solids = (_solid("cube", "yellow", "large", -0.2, 0.3), _solid("sphere", "blue", "large", 1.2, -0.5))
    assert _words(find_solids(render(solids, "brown").image)[1]) == _words(solids)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_solid_of_two_colours_is_mixed(shape):
    green, purple = (render((_solid(shape, colour, "large", 0),), "gray") for colour in ("green", "purple"))
    columns = np.nonzero(green.index == 0)[1]
    for part, colour in ((0.1, "green"), (0.3, MIXED), (0.95, "purple")):
        cut = int(np.quantile(columns, 1 - part))
        image = np.concatenate([green.image[:, :cut], purple.image[:, cut:]], 1)
        (found,) = find_solids(image)[1]
        assert (found.shape, found.colour, found.size) == (shape, colour, "large")
        assert str(found) == f"large {colour} {shape} in the middle"


@pytest.mark.parametrize("side", [32, 64, 256])
def test_the_size_of_the_picture_and_its_kind_do_not_matter(side):
    solids = (_solid("cylinder", "orange", "small", 1.1),)
    image = render(solids, "black", size=side).image
    assert find_solids(image) == find_solids(Image.fromarray(image))
    assert _words(find_solids(image)[1]) == _words(solids)


def test_noise_has_no_solids():
    assert find_solids(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[1] == ()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 32, 3), np.uint8),
        np.zeros((40, 40, 3), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((0, 0, 3), np.uint8),
        np.uint8(3),
    ],
    ids=lambda image: f"{np.shape(image)}-{image.dtype}",
)
def test_other_arrays_are_refused(image):
    with pytest.raises(InvalidArgument, match=r"expected \[S, S, 3\] uint8 with S a multiple of 32"):
        find_solids(image)
