"""Masks from files and arrays, against diffusers' mask_processor and torch; blurred, on the latents' grid, pasted back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.image_input import ImageSource
from sd2rt.runtime.mask import Masks, blur_mask, fit_mask, fit_masks, mask_to_latent, paste_back, prepare_masks, read_mask

Borders = tuple[int, int, int, int]


@dataclass(kw_only=True)
class Request:
    """What prepare_masks looks at of a call."""

    mask: ImageSource | None = None
    invert: bool = False
    expand: Borders | None = None


def _blob(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A mask in bytes, black and white, of some rectangles."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + height // 2 + 1, left : left + width // 3 + 1] = 255
    return mask


def _fit(source: ImageSource) -> list[list[float]]:
    mask = read_mask("mask", source)
    return fit_mask(mask, mask.shape).tolist()  # type: ignore[arg-type]


def test_the_middle_gray_counts_as_white() -> None:
    mask = read_mask("mask", np.array([[0, 127, 128, 255]], np.uint8))
    assert (mask.dtype, mask.shape) == (np.float32, (1, 4))
    np.testing.assert_allclose(mask, np.array([[0, 127, 128, 255]]) / 255, atol=1e-7)
    assert fit_mask(mask, (1, 4)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    "source",
    [
        np.array([[0, 255]], np.uint8),
        np.array([[0, 1]], np.uint8),
        np.array([[0, 0.5]]),
        np.array([[False, True]]),
        np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8),
        Image.fromarray(np.array([[0, 255]], np.uint8)),
        Image.fromarray(np.array([[False, True]])),
        Image.fromarray(np.array([[100, 50000]], np.uint16)),
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert("P"),
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGBA"),
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB").convert("CMYK"),
    ],
)
def test_every_kind_of_mask(source: ImageSource) -> None:
    assert _fit(source) == [[0, 1]]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 127]], [0, 1, 0]),  # black strokes on a transparent ground
        ([[9, 9, 9, 0], [255, 255, 255, 255], [255, 255, 255, 128]], [0, 1, 1]),  # white ones
        ([[0, 0, 0, 255], [0, 0, 0, 255], [0, 0, 0, 255]], [0, 0, 0]),  # all opaque: colours count
        ([[0, 0, 0, 255], [255, 255, 255, 255], [255, 255, 255, 0]], [0, 1, 0]),  # two colours: on black
        ([[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0]], [0, 0, 0]),  # nothing visible
    ],
)
def test_masks_with_transparency(tmp_path: Path, pixels: list[list[int]], expected: list[int]) -> None:
    Image.fromarray(np.array([pixels], np.uint8)).save(tmp_path / "mask.png")
    assert _fit(tmp_path / "mask.png") == [expected]


def test_faint_floats_are_not_taken_for_ones() -> None:
    assert _fit(np.array([[0, 1 / 255]])) == [[0, 0]]


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="mask: cannot open"):
        read_mask("mask", tmp_path / "none.png")
    with pytest.raises(InvalidArgument, match=r"mask: got an array of shape \[1, 2, 2\]"):
        read_mask("mask", np.zeros((1, 2, 2), np.uint8))


@pytest.mark.torch
@pytest.mark.parametrize("size", [(64, 64), (61, 83), (7, 130), (1, 1), (8, 8)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["binary", "gray"])
def test_same_masks_as_diffusers(size: tuple[int, int], mode: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor(
        vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    given = _blob(*size) if kind == "binary" else np.random.default_rng(2).integers(0, 256, size, np.uint8)
    image = Image.fromarray(given).convert(mode)
    for goal in [(64, 64), (40, 72)]:
        expected = processor.preprocess(image, height=goal[0], width=goal[1])
        own = fit_mask(read_mask("mask", image), goal)
        np.testing.assert_array_equal(own, expected[0, 0].numpy())
        latent = torch.nn.functional.interpolate(expected, size=(goal[0] // 8, goal[1] // 8))
        np.testing.assert_array_equal(mask_to_latent(own, 8), latent[0, 0].numpy())


@pytest.mark.torch
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(64, 64), (61, 83), (9, 130), (100, 35)])
def test_nearest_is_torchs(size: tuple[int, int], factor: int) -> None:
    torch = pytest.importorskip("torch")
    mask = np.random.default_rng(0).random(size, np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None], size=(size[0] // factor, size[1] // factor))
    np.testing.assert_array_equal(mask_to_latent(mask, factor), expected[0, 0].numpy())


def test_blur_is_a_gaussian() -> None:
    mask = np.zeros((41, 41), np.float32)
    mask[20, 20] = 1
    blurred = blur_mask(mask, 3.0)
    rows, columns = np.mgrid[-20:21, -20:21]
    np.testing.assert_allclose(blurred, np.exp(-(rows**2 + columns**2) / 18) / (18 * np.pi), atol=2e-5)
    assert blurred.dtype == np.float32


def test_blur_is_near_pillows() -> None:
    mask = _blob(90, 70)
    expected = np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(4))) / 255
    own = blur_mask(mask / np.float32(255), 4)
    np.testing.assert_allclose(own[16:-16, 16:-16], expected[16:-16, 16:-16], atol=0.02)  # at the edges its box blurs differ


@pytest.mark.parametrize("radius", [0, 0.3, 2, 50])
def test_blur_keeps_constants_and_range(radius: float) -> None:
    ones = np.ones((5, 9), np.float32)
    np.testing.assert_allclose(blur_mask(ones, radius), ones, atol=1e-6)
    blurred = blur_mask(_blob(20, 30) / np.float32(255), radius)
    assert blurred.min() >= 0
    assert blurred.max() <= 1


@pytest.mark.parametrize("radius", [-1, 257, float("nan"), float("inf")])
def test_other_radii_are_refused(radius: float) -> None:
    with pytest.raises(InvalidArgument, match=r"mask blur: got .*; expected a radius from 0 to 256 pixels"):
        blur_mask(np.zeros((4, 4), np.float32), radius)


def test_fitted_then_blurred() -> None:
    mask = read_mask("mask", _blob(30, 20))
    np.testing.assert_array_equal(fit_mask(mask, (64, 40), blur=2), blur_mask(fit_mask(mask, (64, 40)), 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31))
def test_pasted_exactly_outside_and_inside(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    original, painted = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    mask = rng.choice([0, 0.25, 1], (height, width)).astype(np.float32)
    pasted = paste_back(original, painted, mask)
    assert pasted.dtype == np.uint8
    np.testing.assert_array_equal(pasted[mask == 0], original[mask == 0])
    np.testing.assert_array_equal(pasted[mask == 1], painted[mask == 1])
    between = 0.75 * original[mask == 0.25] + 0.25 * painted[mask == 0.25]
    np.testing.assert_allclose(pasted[mask == 0.25], between, atol=0.5)


def test_floats_are_pasted_unrounded() -> None:
    original, painted = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    mask = np.array([[0, 0.25, 1, 0.5, 0]] * 4, np.float32)
    pasted = paste_back(original, painted, mask)
    assert pasted.dtype == np.float32
    np.testing.assert_array_equal(pasted[:, 0], original[:, 0])
    np.testing.assert_array_equal(pasted[:, 2], painted[:, 2])
    np.testing.assert_allclose(pasted[:, 1], 0.75 * original[:, 1] + 0.25 * painted[:, 1], atol=1e-6)


def test_pasting_other_sizes_is_refused() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    for painted, mask in [(picture[:3], np.zeros((4, 6))), (picture, np.zeros((6, 4)))]:
        with pytest.raises(InvalidArgument, match=r"paste_back: got .* shapes \[4, 6, 3\], .*; expected one height and width"):
            paste_back(picture, painted, mask.astype(np.float32))


def prepare(pictures: list[np.ndarray], **asked: Any) -> tuple[list[np.ndarray], Masks]:
    return prepare_masks(pictures, Request(**asked), 16)  # type: ignore[arg-type]


def test_a_call_without_expanding_keeps_pictures_and_the_masks_size() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    images, masks = prepare([picture, picture], mask=np.array([[0, 255]], np.uint8))
    assert len(images) == 2
    assert images[0] is picture
    assert masks.paste is masks.paint
    assert masks.paint.tolist() == [[0, 1]]
    assert prepare([picture], mask=np.array([[0, 255]], np.uint8), invert=True)[1].paint.tolist() == [[1, 0]]


def test_a_call_that_expands() -> None:
    picture = np.full((50, 60, 3), 7, np.uint8)
    images, masks = prepare([picture] * 2, expand=(1, 2, 3, 4))
    assert [image.shape for image in images] == [(56, 64, 3)] * 2
    assert masks.paint.shape == masks.paste.shape == (56, 64)
    assert masks.paste[:2].min() == masks.paste[-4:].min() == 1
    assert masks.paste[30, 16] == np.float32(0.5 / 16)
    assert set(np.unique(masks.paint)) == {0, 1}
    np.testing.assert_array_equal(masks.paint, masks.paste > 0)
    inner = np.zeros((25, 30), np.uint8)  # of another size than the picture
    inner[4:6, 7:9] = 255
    _, both = prepare([picture], mask=inner, expand=(0, 0, 0, 40))
    assert both.paint[9, 15] == both.paste[9, 15] == 1
    assert both.paint[2, 2] == both.paste[2, 2] == 0
    assert both.paint[50:].all()


def test_masks_are_fitted_alike() -> None:
    masks = prepare([np.zeros((48, 64, 3), np.uint8)], expand=(0, 0, 16, 0))[1]
    assert_softer(fit_masks(masks, (48, 80), (48, 80)))
    assert_softer(fit_masks(masks, (96, 160), (96, 160)))
    padded = fit_masks(masks, (48, 80), (56, 88))
    assert padded.paint.shape == padded.paste.shape == (56, 88)
    np.testing.assert_array_equal(padded.paste[:48, :80], masks.paste)
    np.testing.assert_array_equal(padded.paste[48:, :80], masks.paste[-8:])
    plain = prepare([np.zeros((8, 8, 3), np.uint8)], mask=_blob(30, 20))[1]
    fitted = fit_masks(plain, (64, 40), (64, 40), blur=2)
    assert fitted.paste is fitted.paint
    np.testing.assert_array_equal(fitted.paint, fit_mask(plain.paint, (64, 40), 2))


def test_a_blur_takes_nothing_from_margins() -> None:
    masks = prepare([np.zeros((48, 64, 3), np.uint8)], expand=(0, 0, 16, 0))[1]
    blurred = fit_masks(masks, (48, 80), (48, 80), blur=6)
    for found, hard in ((blurred.paint, masks.paint), (blurred.paste, masks.paste)):
        assert (found[:, 64:] == 1).all()
        assert (found >= hard).all()
        np.testing.assert_array_equal(found[:, :40], blur_mask(hard, 6)[:, :40])
    assert 0 < blurred.paste[0, 40] <= blurred.paint[0, 40] < 0.5


def assert_softer(masks: Masks) -> None:
    """Check that pasting keeps all that painting keeps, and gives up the overlap bit by bit."""
    assert set(np.unique(masks.paint)) == {0, 1}
    assert masks.paste[masks.paint == 0].max() == 0
    edge = masks.paste[0]
    assert np.diff(edge).max() < 0.1
    assert edge[-1] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"invert": True, "expand": (8, 0, 0, 0)}, "invert: got no mask to invert; expected mask with it"),
        ({"mask": np.full((8, 8), 127, np.uint8)}, "mask: got nothing to paint; expected white where to paint"),
        ({"mask": np.full((8, 8), 255, np.uint8), "invert": True}, "mask: got nothing to paint"),
        ({"expand": (0, 0, 0, 0)}, "expand: got left 0, top 0"),
    ],
)
def test_calls_that_leave_nothing_to_paint_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        prepare([np.zeros((8, 8, 3), np.uint8)], **asked)
