"""Pictures on larger canvases, and the masks that go with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import image_input
from sd2rt.runtime.canvas import choose_overlap, expand_canvas


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(*[st.integers(0, 20)] * 4).filter(any),
    st.integers(0, 30),
    st.integers(0, 2**31),
)
def test_the_picture_stays_and_everything_new_is_masked(
    size: tuple[int, int], margins: tuple[int, int, int, int], overlap: int, seed: int
) -> None:
    left, top, right, bottom = margins
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    canvas, mask = expand_canvas(image, *margins, overlap=overlap)
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    assert canvas.shape == (size[0] + top + bottom, size[1] + left + right, 3)
    assert mask.shape == canvas.shape[:2]
    np.testing.assert_array_equal(canvas[inside], image)
    kept = np.zeros_like(mask)
    kept[inside] = 1 - mask[inside]
    np.testing.assert_array_equal(kept, 1 - mask)
    assert (mask[mask > 0] >= 0.5 / max(overlap, 1)).all()
    assert kept[top + (size[0] - 1) // 2, left + (size[1] - 1) // 2] == 1
    assert canvas.dtype == np.uint8
    assert (mask.dtype, mask.min(), mask.max()) == (np.float32, 0, 1)


def test_the_overlap_lies_on_expanded_sides_only() -> None:
    _, mask = expand_canvas(np.zeros((64, 64, 3), np.uint8), right=32, overlap=8)
    assert mask[:, :56].max() == 0
    assert mask[:, 64:].min() == 1
    np.testing.assert_allclose(mask[0, 56:64], (np.arange(8) + 0.5) / 8)  # half a step off either end: no edge
    np.testing.assert_array_equal(mask, mask[:1].repeat(64, axis=0))
    left = expand_canvas(np.zeros((64, 64, 3), np.uint8), left=32, overlap=8)[1]
    np.testing.assert_array_equal(left, mask[:, ::-1])


def test_in_a_corner_the_greater_of_two_slopes_counts() -> None:
    _, mask = expand_canvas(np.zeros((32, 32, 3), np.uint8), left=8, top=8, overlap=4)
    np.testing.assert_allclose(np.diag(mask)[8:14], [0.875, 0.625, 0.375, 0.125, 0, 0])
    assert mask[8 + 3, 8] == mask[8, 8 + 3] == 0.875


@pytest.mark.parametrize(
    ("native", "factor", "expected"),
    [((64, 64), 8, 8), ((512, 512), 8, 16), ((768, 768), 8, 16), ((384, 512), 8, 12), ((1024, 1024), 8, 16)],
)
def test_the_overlap_goes_with_the_models_size(native: tuple[int, int], factor: int, expected: int) -> None:
    assert choose_overlap(native, factor) == expected


def test_margins_hold_the_edges_colours() -> None:
    image = np.full((32, 32, 3), 200, np.uint8)
    image[:, :16] = 10
    canvas, _ = expand_canvas(image, left=16, right=16)
    assert np.abs(canvas[:, :16].astype(int) - 10).max() <= 2
    assert np.abs(canvas[:, -16:].astype(int) - 200).max() <= 2


def test_replicated_noise_is_smoothed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    canvas, _ = expand_canvas(image, left=64)
    assert canvas[:, :32].std() < image.std() / 3


@pytest.mark.parametrize(
    ("margins", "message"),
    [
        ({}, "expand: got left 0, top 0, right 0, bottom 0, overlap 16; expected pixels of 0 or more, and at least one margin above 0"),
        ({"left": -1, "right": 5}, "expand: got left -1"),
        ({"left": 1, "overlap": -1}, "expand: got .* overlap -1"),
    ],
)
def test_other_margins_are_refused(margins: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        expand_canvas(np.zeros((4, 4, 3), np.uint8), **margins)


def test_a_canvas_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_input, "MAX_PIXELS", 99)
    with pytest.raises(InvalidArgument, match="expand: got 10 x 10 pixels"):
        expand_canvas(np.zeros((10, 4, 3), np.uint8), left=6)
