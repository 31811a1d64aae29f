"""Noise against torch's CPU generator, which is what makes a seed mean the same picture in diffusers."""

import numpy as np
import pytest

from sd2rt.runtime.noise import BatchNoise, TorchNormals

SHAPES = [(4, 8, 8), (1, 3), (7,), (16,), (1,), (17,), (31,), (4, 9, 7), (15,), (4, 64, 64), (2, 1)]


@pytest.mark.torch
@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63 - 1])
def test_a_stream_is_that_of_torch(seed: int) -> None:
    """One generator over shapes above and below 16 elements: the small ones share a cached half of a pair."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator("cpu").manual_seed(seed)
    stream = TorchNormals(seed)
    for shape in SHAPES:
        expected = torch.randn(shape, generator=generator).numpy()
        drawn = stream.draw(shape)
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-6, err_msg=str(shape))


def test_known_numbers() -> None:
    """torch.randn(3) and torch.randn(16)[:3] of manual_seed(0), as PyTorch has printed them since 1.0."""
    np.testing.assert_allclose(TorchNormals(0).draw((3,)), [1.5410, -0.2934, -2.1788], atol=5e-5)
    np.testing.assert_allclose(TorchNormals(0).draw((16,))[:3], [-1.1258, -1.1524, -0.2506], atol=5e-5)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    batch, alone = BatchNoise([3, 4, 5], (4, 3, 5)), BatchNoise([4], (4, 3, 5))
    for _ in range(2):
        drawn = batch.draw()
        assert drawn.shape == (3, 4, 3, 5)
        np.testing.assert_array_equal(drawn[1:2], alone.draw())
        assert abs(drawn[0] - drawn[1]).max() > 0.1
