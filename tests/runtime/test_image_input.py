"""Arrays, PIL images and sizes to what models take, against diffusers' VaeImageProcessor; files are in test_image_input_files."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import image_input
from sd2rt.runtime.image_input import fit_image, pad_image, read_image, to_model
from sd2rt.runtime.picture_size import down

SIZES = [(64, 64), (8, 8), (71, 53), (9, 130), (100, 8), (1, 1), (5, 3)]


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_arrays_of_bytes_come_as_they_are() -> None:
    picture = _picture(3, 5)
    np.testing.assert_array_equal(read_image("image", picture), picture)
    np.testing.assert_array_equal(read_image("image", picture[:, :, 0]), np.stack([picture[:, :, 0]] * 3, axis=2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_floats_are_scaled_and_rounded(dtype: type) -> None:
    unit = (np.arange(256).reshape(16, 16) / 255).astype(dtype)
    expected = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(read_image("image", unit)[:, :, 1], expected)
    np.testing.assert_array_equal(read_image("image", np.stack([unit] * 3, axis=2))[:, :, 2], expected)


def test_bools_are_black_and_white() -> None:
    assert read_image("image", np.array([[False, True]])).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"x: got an array of shape \[4, 4, 4\]; expected \[H, W, 3\] or \[H, W\]"),
        (np.zeros(4, np.uint8), r"x: got an array of shape \[4\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"x: got an array of shape \[1, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"x: got 4 x 0 pixels \(width x height\); expected at least 1 x 1"),
        (np.zeros((4, 4), np.int64), "x: got an array of int64; expected uint8, or floats"),
        (np.zeros((4, 4), np.uint16), "x: got an array of uint16"),
        (np.array([["a"]]), "x: got an array of <U1"),
        (np.full((2, 2), 1.5), "x: got floats from 1.5 to 1.5; expected finite ones from 0 to 1"),
        (np.array([[0.0, -1.0]]), "x: got floats from -1 to 0"),
        (np.array([[0.0, np.nan]]), "x: got floats from nan to nan"),
        (np.array([[0.0, np.inf]], np.float32), "x: got floats from 0 to inf"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_image("x", array)


@pytest.mark.parametrize("source", [None, 3, b"bytes", ["a.png"]])
def test_other_types_are_refused(source: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"image: got .*; expected a file's path, a PIL image or a numpy array"):
        read_image("image", source)


def test_pil_images_are_read_and_left_alone() -> None:
    image = Image.fromarray(_picture(4, 6))
    image.getexif()[274] = 6
    assert read_image("image", image).shape == (6, 4, 3)
    assert image.size == (6, 4)
    assert image.getexif()[274] == 6


def test_empty_pil_images_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="image: got 0 x 5 pixels"):
        read_image("image", Image.new("RGB", (0, 5)))


def test_large_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_input, "MAX_PIXELS", 12)
    assert read_image("image", Image.new("L", (4, 3))).shape == (3, 4, 3)
    for source in (Image.new("L", (13, 1)), np.zeros((1, 13), np.uint8)):
        with pytest.raises(InvalidArgument, match=r"image: got 13 x 1 pixels \(width x height\); .*at most 12 pixels; scale it down first"):
            read_image("image", source)


def test_model_input_is_channels_first_and_spans_minus_one_to_one() -> None:
    samples = to_model(np.array([[[0, 255, 51]]], np.uint8))
    assert (samples.shape, samples.dtype, samples.flags.c_contiguous) == ((1, 3, 1, 1), np.float32, True)
    np.testing.assert_allclose(samples.ravel(), [-1, 1, -0.6], atol=1e-7)


@pytest.mark.parametrize("size", [*SIZES, (512, 384)])
def test_fitted_to_the_size_asked(size: tuple[int, int]) -> None:
    assert fit_image(_picture(13, 17), size).shape == (*size, 3)


def test_padded_with_the_last_row_and_column() -> None:
    picture = _picture(5, 7)
    padded = pad_image(picture, (8, 16))
    np.testing.assert_array_equal(padded[:5, :7], picture)
    np.testing.assert_array_equal(padded[5:, :7], np.repeat(picture[-1:], 3, axis=0))
    assert (padded[:, 7:] == padded[:, 6:7]).all()


@pytest.mark.torch
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [None, (64, 40), (8, 136)])
def test_same_numbers_as_diffusers(size: tuple[int, int], target: tuple[int, int] | None) -> None:
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor(vae_scale_factor=8)
    picture = _picture(*size, seed=1)
    goal = target or (down(size[0], 8), down(size[1], 8))
    expected = processor.preprocess(Image.fromarray(picture), height=goal[0], width=goal[1]).numpy()
    np.testing.assert_array_equal(to_model(fit_image(read_image("image", picture), goal)), expected)
    if target is None and min(size) >= 8:
        assert processor.preprocess(Image.fromarray(picture)).shape[2:] == goal
