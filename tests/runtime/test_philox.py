"""CUDA's noise: the bit generator against its authors' vectors, the normals against what torch printed on GPUs."""

import numpy as np
import pytest

from sd2rt.runtime.philox import CudaNormals, philox_4x32

# Random123's tests/kat_vectors, philox4x32 with 10 rounds: counter, key, block.
KNOWN_BLOCKS = (
    "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
)

# From a public notebook: torch.manual_seed(0), then x = randn(8, 8), y = randn(8, 8) and z = randn(8) on cuda:0.
X = """
-0.9247 -0.4253 -2.6438 0.1452 -0.1209 -0.5797 -0.6229 -0.3284 -1.0745 -0.3631 -1.6711 2.2655 0.3117 -0.1842 1.2866 1.1820
-0.1271 1.2169 1.4353 1.0605 -0.4941 -1.4244 -0.7244 -1.2973 0.0697 -0.0074 1.8969 0.6878 -0.0779 -0.8373 1.3506 -0.2879
-0.5965 -0.3283 -0.9086 -0.8059 -0.7407 -0.0504 0.5435 1.5150 0.0141 0.4532 1.6349 0.7124 -0.1806 1.0252 -1.4622 -0.7554
-0.1836 0.3824 0.3918 -0.0830 0.8971 -1.1123 0.1116 0.4863 -0.5499 -0.3231 -0.5469 0.9049 0.2837 0.1210 0.4730 -1.0823
"""
# The same notebook's max(x + y / 2 + z, 0).
RELU = """
1.7098e+00 0 0 0 6.7049e-01 0 3.4424e-01 1.1223e-02 1.8750e+00 0 0 2.2105e+00 6.6808e-01 0 1.8445e+00 1.9246e+00
2.2614e+00 1.3964e+00 5.1802e-01 2.0114e+00 0 0 2.7715e-01 0 2.4750e+00 0 1.9079e+00 5.4869e-01 3.7923e-01 0 3.1791e+00 6.6843e-01
1.8234e+00 0 1.1147e-01 0 0 0 2.4250e+00 3.2593e+00 2.2903e+00 0 1.1721e+00 6.9331e-01 1.0583e+00 6.7518e-01 0 2.6185e-01
1.5804e+00 0 9.0740e-01 1.6670e-01 5.5230e-02 0 1.5325e+00 3.5984e-01 1.5554e+00 0 0 9.4380e-01 2.9795e-03 7.4125e-02 1.6286e+00 0
"""


@pytest.mark.parametrize("line", KNOWN_BLOCKS)
def test_known_blocks(line: str) -> None:
    words = [int(word, 16) for word in line.split()]
    counters = np.array(words[:4], np.uint32)[:, None]
    assert philox_4x32(counters, (words[4], words[5]))[:, 0].tolist() == words[6:]


def test_blocks_of_many_counters_are_those_of_each() -> None:
    counters = np.arange(12, dtype=np.uint32).reshape(4, 3) * np.uint32(0x1234567)
    together = philox_4x32(counters, (1, 2))
    for index in range(3):
        np.testing.assert_array_equal(together[:, index : index + 1], philox_4x32(counters[:, index : index + 1], (1, 2)))


def test_three_draws_are_those_of_a_gpu() -> None:
    stream = CudaNormals(0)
    x, y, z = (stream.draw(shape) for shape in ((8, 8), (8, 8), (8,)))
    assert (x.dtype, x.shape, z.shape) == (np.float32, (8, 8), (8,))
    np.testing.assert_allclose(x.ravel(), np.array(X.split(), float), rtol=0, atol=6e-5)
    np.testing.assert_allclose(np.maximum(x + y / 2 + z, 0).ravel(), np.array(RELU.split(), float), rtol=0, atol=6e-5)


def test_all_bits_of_the_seed_count() -> None:
    low, high = CudaNormals(5).draw((64,)), CudaNormals(5 + 2**32).draw((64,))
    assert np.abs(low - high).max() > 0.5


def test_normals_are_normal_and_finite() -> None:
    """The words 0 and 2^32 - 1 are the ends of the uniforms: neither gives an infinity."""
    drawn = CudaNormals(7).draw((1000, 1000)).ravel().astype(np.float64)
    assert np.isfinite(drawn).all()
    assert abs(drawn.mean()) < 0.005
    assert abs(drawn.std() - 1) < 0.005
    assert abs((drawn**3).mean()) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.05


def test_the_ends_of_the_uniforms_are_finite() -> None:
    from sd2rt.runtime.philox import _box_muller

    ends = np.array([0, 2**32 - 1], np.uint32)
    for angle in ends:
        assert np.isfinite(_box_muller(ends, np.full(2, angle, np.uint32))).all()
