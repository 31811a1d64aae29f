"""Depth maps as pictures. Estimating depth is compared with diffusers in test_parity_pictures, and used in tests/cli/test_depth2img."""

import numpy as np

from sd2rt.runtime.depth import to_image


def test_the_nearest_is_white_and_the_farthest_black() -> None:
    depth = np.array([[3.0, 5.0], [4.0, 7.0]], np.float32)
    image = to_image(depth, (2, 2))
    assert image.mode == "I;16"
    assert np.asarray(image).tolist() == [[0, 32768], [16384, 65535]]


def test_it_takes_the_size_asked() -> None:
    assert to_image(np.random.default_rng(0).random((4, 6), np.float32), (30, 20)).size == (20, 30)


def test_no_depth_at_all_is_gray() -> None:
    assert np.unique(np.asarray(to_image(np.full((4, 4), 2.0, np.float32), (8, 8)))).tolist() == [32768]
