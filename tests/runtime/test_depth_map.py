"""Depth maps from files and arrays, resized and spread as diffusers does it with torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.depth_map import normalize_depth, read_depth

GRAYS = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64])
def test_arrays_and_npy_files_keep_their_values(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "depth.NPY.npy", GRAYS.astype(dtype))
    for source in (GRAYS.astype(dtype), tmp_path / "depth.NPY.npy", str(tmp_path / "depth.NPY.npy")):
        depth = read_depth("depth", source)
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, GRAYS)


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [
        ("a.png", np.uint8, 20),
        ("a.png", np.uint16, 5000),
        ("a.tif", np.uint16, 5000),
        ("a.tif", np.float32, 0.7),
        ("a.tif", np.int32, 10**6),
    ],
)
def test_gray_images_keep_their_values(tmp_path: Path, name: str, dtype: type, scale: float) -> None:
    grays = (GRAYS * scale).astype(dtype)
    Image.fromarray(grays).save(tmp_path / name)
    np.testing.assert_array_equal(read_depth("depth", tmp_path / name), grays)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grays_stored_as_colours(mode: str) -> None:
    image = Image.fromarray((GRAYS * 20).astype(np.uint8)).convert(mode)
    np.testing.assert_array_equal(read_depth("depth", image), GRAYS * 20)


def test_one_bit() -> None:
    assert read_depth("depth", Image.fromarray(np.array([[False, True]]))).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 2, 3)), r"depth: got an array of float64 \[2, 2, 3\]; expected one of numbers \[H, W\]"),
        (np.zeros((2, 2), np.complex64), "depth: got an array of complex64"),
        (np.zeros((2, 2), bool), "depth: got an array of bool"),
        (np.zeros((2, 0)), "depth: got 0 x 2 pixels"),
        (np.array([[1, np.nan]]), "depth: got NaN or infinity; expected finite depths"),
        (np.array([[1, np.inf]]), "depth: got NaN or infinity"),
        (np.array([[1, 1e300]]), "depth: got NaN or infinity"),
        (Image.new("RGB", (2, 2), "red"), "depth: got a colour image; expected a depth map in grays"),
        ("none.png", "depth: cannot open none.png"),
        ("none.npy", r"depth: cannot read none.npy \(.*No such file.*\); expected a .npy file of numbers"),
        (7, "depth: got int; expected"),
    ],
)
def test_what_is_no_depth_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_depth("depth", source)


def test_damaged_npy_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.npy"
    np.save(path, np.arange(1000.0).reshape(10, 100))
    whole = path.read_bytes()
    np.save(path, np.array([{}], dtype=object))
    for data in (b"", whole[:5], whole[:60], whole[:500], whole.replace(b"(10, 100)", b"(99999, 100)"), path.read_bytes(), b"x" * 200):
        path.write_bytes(data)
        with pytest.raises(InvalidArgument, match=r"depth: cannot read .*; expected a \.npy file") as caught:
            read_depth("depth", path)
        assert "\n" not in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize("size", [(384, 384), (5, 7), (64, 33), (1, 9), (100, 120)])
@pytest.mark.parametrize("goal", [(8, 8), (12, 7), (64, 96), (1, 1), (1, 5)])
def test_same_numbers_as_torch(size: tuple[int, int], goal: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    depth = np.random.default_rng(0).gamma(2.0, 500.0, size).astype(np.float32)
    resized = torch.nn.functional.interpolate(torch.from_numpy(depth)[None, None], size=goal, mode="bicubic", align_corners=False)
    low, high = resized.amin(), resized.amax()
    expected = (2.0 * (resized - low) / (high - low) - 1.0).numpy() if goal != (1, 1) else np.zeros((1, 1, 1, 1))
    own = normalize_depth(depth, goal)
    assert (own.shape, own.dtype) == ((1, 1, *goal), np.float32)
    np.testing.assert_allclose(own, expected, atol=1e-5)


def test_depth_spans_minus_one_to_one_and_scale_does_not_matter() -> None:
    depth = np.random.default_rng(0).random((40, 50), np.float32)
    own = normalize_depth(depth, (8, 8))
    assert (own.min(), own.max()) == (-1, 1)
    np.testing.assert_allclose(normalize_depth(depth * 4000 + 100, (8, 8)), own, atol=1e-4)
    np.testing.assert_allclose(normalize_depth(-depth, (8, 8)), -own, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e30])
def test_constant_depth_becomes_zeros(value: float) -> None:
    own = normalize_depth(np.full((33, 17), value, np.float32), (8, 5))
    np.testing.assert_array_equal(own, np.zeros((1, 1, 8, 5), np.float32))
