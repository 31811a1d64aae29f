"""Windows that cover a grid, and functions run on them: nothing missed, no seams, memory bounded."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.tiling import Window, blend_weights, run_tiled, shared_cells, windows

SIDES = st.integers(1, 90)
TILES = st.integers(1, 40).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@given(SIDES, SIDES, TILES)
def test_windows_cover_the_grid_and_lie_inside(height: int, width: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    covered = np.zeros((height, width), int)
    places = windows(height, width, tile, overlap)
    for place in places:
        assert (place.height, place.width) == (min(tile, height), min(tile, width))
        assert place.top >= 0
        assert place.left >= 0
        assert place.top + place.height <= height
        assert place.left + place.width <= width
        place.cut(covered)[...] += 1  # type: ignore[arg-type]
    assert covered.min() == 1 if len(places) == 1 else covered.min() >= 1
    assert len(set(places)) == len(places)


@given(SIDES, TILES)
def test_the_fewest_windows_share_the_overlap_and_are_spread_evenly(side: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    places = windows(side, 1, tile, overlap)
    steps = np.diff([place.top for place in places])
    assert ((steps > 0) & (steps <= tile - overlap)).all()
    assert np.ptp(steps) <= 1 if len(steps) else side <= tile
    one_less_reaches = tile + (len(places) - 2) * (tile - overlap)
    assert len(places) == 1 or one_less_reaches < side
    assert shared_cells(places) == (tile - steps.max() if len(steps) else 0, 0)


@given(SIDES, TILES, st.sampled_from([2, 8]))
def test_windows_begin_at_multiples(side: int, tiling: tuple[int, int], multiple: int) -> None:
    tile, overlap = tiling
    coarse = windows(side, 3, tile, overlap)
    assert windows(side * multiple, 3 * multiple, tile * multiple, overlap * multiple, multiple) == tuple(
        place.scaled(Fraction(multiple)) for place in coarse
    )


def test_a_large_upscale_takes_nine_windows() -> None:
    places = windows(512, 512, 192, 32)
    assert sorted({place.top for place in places}) == sorted({place.left for place in places}) == [0, 160, 320]
    assert len(places) == 9


def test_windows_of_a_known_grid() -> None:
    places = windows(10, 4, 6, 2)
    assert places == (Window(top=0, left=0, height=6, width=4), Window(top=4, left=0, height=6, width=4))
    assert [place.left for place in windows(4, 11, 6, 2)] == [0, 2, 5]


@pytest.mark.parametrize("arguments", [(0, 5, 4, 1), (5, 0, 4, 1), (5, 5, 0, 0), (5, 5, 4, 4), (5, 5, 4, -1)])
def test_other_tiles_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidArgument, match=r"tiles: got .* with an overlap of .*; expected at least 1, and an overlap below the tile"):
        windows(*arguments)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 80), st.integers(0, 80))
def test_weights_are_positive_symmetric_and_smooth(height: int, width: int, rows: int, columns: int) -> None:
    weights = blend_weights(height, width, (rows, columns))
    assert (weights.shape, weights.dtype) == ((height, width), np.float32)
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert np.abs(np.diff(weights, axis=0)).max(initial=0) <= 0.5 * np.pi / max(rows, 1)
    assert np.abs(np.diff(weights, axis=1)).max(initial=0) <= 0.5 * np.pi / max(columns, 1)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 2), (8, 3), (8, 4), (64, 16)])
def test_weights_of_regular_windows_sum_to_one(tile: int, overlap: int) -> None:
    side = tile + 3 * (tile - overlap)
    total = np.zeros((side, side), np.float32)
    for place in windows(side, side, tile, overlap):
        place.cut(total)[...] += blend_weights(tile, tile, (overlap, overlap))
    inner = total[overlap : side - overlap, overlap : side - overlap]
    np.testing.assert_allclose(inner, 1, atol=1e-6)


@settings(deadline=None)
@given(SIDES, SIDES, TILES)
def test_identity_gives_the_input(height: int, width: int, tiling: tuple[int, int]) -> None:
    array = _noise(1, 2, height, width)
    result = run_tiled(lambda tile: tile, array, 1, *tiling)
    assert (result.dtype, result.shape) == (np.float32, array.shape)
    loss = 1e-6 if 2 * tiling[1] <= tiling[0] else 1e-5  # a cell then lies in up to four windows, or in hundreds
    np.testing.assert_allclose(result, array, rtol=loss, atol=loss)


def _enlarge(tile: np.ndarray) -> np.ndarray:
    return tile[:, :1].repeat(8, axis=2).repeat(8, axis=3)


def _shrink(tile: np.ndarray) -> np.ndarray:
    n, c, h, w = tile.shape
    return np.asarray(tile.reshape(n, c, h // 4, 4, w // 4, 4).mean(axis=(3, 5)), np.float32)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(16, 4), (7, 3), (5, 0), (12, 11)]))
def test_decoding_and_encoding(height: int, width: int, tiling: tuple[int, int]) -> None:
    latents = _noise(2, 4, height, width)
    decoded = run_tiled(_enlarge, latents, 8, *tiling)
    assert decoded.shape == (2, 1, 8 * height, 8 * width)
    np.testing.assert_allclose(decoded, _enlarge(latents), rtol=1e-5, atol=1e-5)
    pixels = _noise(1, 3, 4 * height, 4 * width)
    encoded = run_tiled(_shrink, pixels, Fraction(1, 4), 4 * tiling[0], 4 * tiling[1])
    np.testing.assert_allclose(encoded, _shrink(pixels), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(SIDES, SIDES, TILES)
def test_constants_have_no_seams(height: int, width: int, tiling: tuple[int, int]) -> None:
    result = run_tiled(lambda tile: np.full_like(tile, 0.7), _noise(1, 1, height, width), 1, *tiling)
    np.testing.assert_allclose(result, 0.7, rtol=1e-5)


def _blur(tile: np.ndarray, reach: int = 2) -> np.ndarray:
    """A mean over 5 x 5 cells with zeros outside, as a convolution pads."""
    padded = np.pad(tile, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    h, w = tile.shape[2:]
    return np.asarray(sum(padded[:, :, i : i + h, j : j + w] for i in range(5) for j in range(5)) / np.float32(25), np.float32)


def test_a_convolution_agrees_with_the_untiled_one() -> None:
    array = _noise(1, 1, 72, 48) + np.float32(2.0)
    whole = _blur(array)
    errors = [np.abs(run_tiled(_blur, array, 1, 24, overlap) - whole) for overlap in (0, 4, 8, 16)]
    near_an_edge = np.zeros((72, 48), bool)  # of a window, inside the grid: the convolution saw zeros there
    for place in windows(72, 48, 24, 8):
        for start, end, side, axis in ((place.top, place.top + 24, 72, 0), (place.left, place.left + 24, 48, 1)):
            lines = np.moveaxis(near_an_edge, axis, 0)
            lines[start : start + 2 if start else start] = True
            lines[end - 2 if end < side else end : end] = True
    assert errors[2][0, 0, ~near_an_edge].max() < 1e-5
    assert np.mean(~near_an_edge) > 0.2
    largest = [error.max() for error in errors]
    assert largest[0] > 0.5
    assert largest == sorted(largest, reverse=True)
    assert largest[3] < 0.05


def test_different_tiles_are_blended_without_a_seam() -> None:
    calls = iter(range(100))
    result = run_tiled(lambda tile: np.full_like(tile, next(calls)), _noise(1, 1, 8, 40), 1, 16, 8)
    assert np.abs(np.diff(result[0, 0, 0])).max() < 0.25  # where a hard edge would jump by 1


def test_one_window_goes_through_as_it_is() -> None:
    array, result = _noise(1, 4, 5, 7), _noise(1, 3, 5, 7)
    given: list[np.ndarray] = []

    def function(tile: np.ndarray) -> np.ndarray:
        given.append(tile)
        return result

    assert run_tiled(function, array, 1, 8, 2) is result
    np.testing.assert_array_equal(given[0], array)
    assert len(given) == 1


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "message"),
    [
        ((20, 64), 32, 8, "tiles: got height 20 at a scale of 1/8; expected multiples of 8"),
        ((64, 64), 30, 4, "tiles: got tile 30, overlap 4 at a scale of 1/8"),
        ((64, 64), 32, 32, "tiles: got 32 with an overlap of 32"),
    ],
)
def test_sides_that_a_scale_does_not_divide_are_refused(size: tuple[int, int], tile: int, overlap: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        run_tiled(lambda tile: tile, _noise(1, 1, *size), Fraction(1, 8), tile, overlap)


@pytest.mark.parametrize("side", [8, 30])
def test_results_of_another_size_are_refused(side: int) -> None:
    with pytest.raises(InvalidArgument, match=r"tiles: got \[1, 1, \d+, \d+\] from the function; expected \[N, C, \d+, \d+\]"):
        run_tiled(lambda tile: tile, _noise(1, 1, side, side), 2, 8, 2)


def test_batches_and_other_numbers_of_channels() -> None:
    array = _noise(3, 2, 20, 20)
    result = run_tiled(lambda tile: tile.repeat(2, axis=1), array, 1, 8, 4)
    np.testing.assert_allclose(result, array.repeat(2, axis=1), atol=1e-6)
