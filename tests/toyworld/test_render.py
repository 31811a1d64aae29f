"""The renderer: one scene against figures kept from the first renderer, and what image, depth and index mean."""

from time import perf_counter

import numpy as np
import pytest

from sd2rt.toyworld.render import FAR, FLOOR_INDEX, SKY_INDEX, Solid, empty_scene, relief, render
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS


def _solid(shape: str, colour: str, x: float, z: float, radius: float) -> Solid:
    return Solid(shape=shape, colour=colour, size="small", place="", x=x, z=z, radius=radius)


ROW = (
    _solid("sphere", "red", -1.5, 0.2, 0.62),
    _solid("cube", "blue", -0.4, -0.3, 0.62),
    _solid("cylinder", "yellow", 0.7, 0.1, 0.62),
    _solid("cone", "white", 1.6, -0.2, 1.0),
)


def _blocks(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(4, 16, 4, 16, -1).astype(float).mean((1, 3)).squeeze()


def test_the_picture_is_that_of_the_prototype_that_models_were_trained_with() -> None:
    rendering = render(ROW, "gray")
    assert rendering.image.dtype == np.uint8
    assert rendering.image.shape == (64, 64, 3)
    # Means over blocks of 16 x 16 pixels.
    expected = [
        [[191.0, 217.0, 242.0], [191.0, 217.0, 242.0], [191.0, 217.0, 242.0], [191.3, 216.8, 241.3]],
        [[182.6, 117.3, 128.3], [102.3, 120.2, 177.1], [161.2, 158.9, 111.2], [182.0, 189.1, 193.8]],
        [[103.2, 61.7, 64.1], [66.6, 74.0, 114.2], [130.0, 117.5, 60.4], [163.5, 162.9, 161.9]],
        [[114.0, 114.0, 119.0], [114.0, 114.0, 119.0], [114.0, 114.0, 119.0], [114.0, 114.0, 119.0]],
    ]
    np.testing.assert_allclose(_blocks(rendering.image), expected, atol=0.3)
    depth = [[20, 20, 20, 19.703], [11.002, 10.885, 10.207, 9.493], [4.26, 4.27, 4.153, 4.419], [3.286, 3.143, 3.143, 3.286]]
    np.testing.assert_allclose(_blocks(rendering.depth), depth, atol=0.005)


def test_the_same_scene_gives_the_same_bytes() -> None:
    assert render(ROW, "pink").image.tobytes() == render(ROW, "pink").image.tobytes()


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_the_index_names_what_the_pixel_centre_shows(supersample: int) -> None:
    rendering = render(ROW, "gray", supersample=supersample)
    assert rendering.index.dtype == np.int8
    assert set(np.unique(rendering.index)) == {SKY_INDEX, FLOOR_INDEX, 0, 1, 2, 3}
    np.testing.assert_array_equal(rendering.index, render(ROW, "gray", supersample=1).index)
    red, _, blue = rendering.image[rendering.index == 0].mean(0)
    assert red > 2 * blue


def test_sky_is_far_and_the_floor_is_where_geometry_puts_it() -> None:
    rendering = render((), "gray", size=32, supersample=1)
    sky = rendering.index == SKY_INDEX
    assert (rendering.depth[sky] == FAR).all()
    assert (rendering.image[sky] == np.array([191, 217, 242])).all()
    # The bottom row, just right of the middle: u = 1/32, v = -31/32 on the image plane, the eye 1.7 above the floor.
    ray = np.array([0.52 / 32, -0.52 * 31 / 32 - 0.27, -1])
    assert rendering.depth[-1, 16] == pytest.approx(1.7 / -(ray / np.linalg.norm(ray))[1], rel=1e-4)


def test_a_nearer_solid_hides_one_behind() -> None:
    front, behind = _solid("cube", "red", 0, 1.0, 0.6), _solid("sphere", "green", 0, -1.5, 0.3)
    assert set(np.unique(render((behind, front), "gray").index)) == {SKY_INDEX, FLOOR_INDEX, 1}


def test_solids_cast_shadows_to_the_right_of_and_on_one_another() -> None:
    ball, post = _solid("sphere", "yellow", 0.3, -0.6, 0.62), _solid("cylinder", "red", -1.2, 0, 1.0)
    alone, pair = (render(solids, "gray", supersample=1) for solids in ((ball,), (ball, post)))
    darker = alone.image.astype(int).sum(-1) - pair.image.astype(int).sum(-1)
    same = pair.index == alone.index
    assert (darker[same] >= 0).all()
    assert (darker[same & (pair.index == FLOOR_INDEX)] > 60).sum() > 30
    assert (darker[same & (pair.index == 0)] > 60).sum() > 30


@pytest.mark.parametrize("floor", FLOORS)
def test_an_empty_scene_is_the_floor_in_the_light(floor: str) -> None:
    lit, shadow = empty_scene(floor, 32)
    image = render((), floor, 32, supersample=1).image.reshape(-1, 3).T
    np.testing.assert_allclose(np.clip(lit, 0, 1) * 255, image, atol=0.6)
    assert (shadow <= lit + 1e-6).all()
    assert shadow[:, -1].sum() < 0.7 * lit[:, -1].sum()


@pytest.mark.parametrize("solid", ROW, ids=lambda solid: solid.shape)
def test_a_relief_repaints_the_solid_in_its_colour(solid: Solid) -> None:
    cover, brightness, highlight = relief(solid, 32, supersample=1)
    inside = cover == 1
    assert ((cover == 0) | inside).all()
    assert inside.sum() > 40
    painted = np.array(COLOURS[solid.colour])[:, None] * brightness[inside] + highlight[inside]
    np.testing.assert_allclose(np.clip(painted.T, 0, 1) * 255, render((solid,), "gray", 32, 1).image[inside], atol=0.6)


@pytest.mark.parametrize("most_s", [0.1, pytest.param(0.012, marks=pytest.mark.slow)])
def test_a_picture_takes_milliseconds(most_s: float) -> None:
    def once() -> float:
        start = perf_counter()
        render(ROW[:2], "gray")
        return perf_counter() - start

    assert min(once() for _ in range(20)) < most_s
