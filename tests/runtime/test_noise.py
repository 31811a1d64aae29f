"""Noise against torch's CPU generator, which is what makes a seed mean the same picture in diffusers; variations of it."""

import numpy as np
import pytest

from sd2rt.runtime.noise import BatchNoise, TorchNormals, Variation, slerp
from sd2rt.runtime.options import Rng
from sd2rt.runtime.philox import CudaNormals

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


def test_whose_numbers_a_seed_means() -> None:
    shape = (4, 3, 5)
    np.testing.assert_array_equal(BatchNoise([9], shape, "nv").draw()[0], CudaNormals(9).draw(shape))
    np.testing.assert_array_equal(BatchNoise([9], shape).draw()[0], TorchNormals(9).draw(shape))


@pytest.mark.parametrize("rng", ["torch", "nv"])
def test_a_variation_turns_the_first_noise_alone(rng: Rng) -> None:
    shape = (4, 8, 6)
    varied = BatchNoise([3, 3], shape, rng, Variation(seeds=(5, 6), strength=0.25))
    own, other = (BatchNoise([seed], shape, rng) for seed in (3, 5))
    first, start, end = varied.draw_first(), own.draw_first()[0], other.draw()[0]
    np.testing.assert_array_equal(first[0], slerp(start, end, 0.25))
    assert np.abs(first[0] - first[1]).max() > 0.1
    np.testing.assert_array_equal(varied.draw()[1], own.draw()[0])  # later noise is the seed's own stream


def test_slerp_turns_each_column_by_its_share_of_the_angle() -> None:
    low, high = np.zeros((1, 2, 1), np.float32), np.zeros((1, 2, 1), np.float32)
    low[0, :, 0], high[0, :, 0] = (1, 0), (0, 1)
    np.testing.assert_allclose(slerp(low, high, 1 / 3)[0, :, 0], [np.cos(np.pi / 6), np.sin(np.pi / 6)], atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_keeps_the_length_and_its_ends(share: float) -> None:
    low, high = (TorchNormals(seed).draw((4, 64, 64)) for seed in (1, 2))
    turned = slerp(low, high, share)
    assert turned.dtype == np.float32
    assert 0.95 < turned.std() < 1.05
    if share in (0.0, 1.0):
        np.testing.assert_allclose(turned, high if share else low, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_of_columns_on_one_line_is_finite(sign: int) -> None:
    noise = TorchNormals(1).draw((4, 1, 8))
    np.testing.assert_allclose(slerp(noise, sign * noise, 0.25), noise * (0.75 + 0.25 * sign), atol=1e-6)
