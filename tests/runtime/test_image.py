"""Decoder output to pictures, with diffusers' clamping and rounding."""

import numpy as np
import pytest

from sd2rt.runtime.image import to_pil, to_uint8, to_unit


def test_samples_become_pictures() -> None:
    samples = np.array([-3.0, -1.0, 0.0, 1.0, 7.0, 0.5], np.float32).reshape(1, 3, 1, 2)
    pictures = to_unit(samples)
    assert pictures.dtype == np.float32
    np.testing.assert_array_equal(pictures, np.array([[[[0.0, 0.5, 1.0], [0.0, 1.0, 0.75]]]], np.float32))


@pytest.mark.parametrize(
    ("unit", "byte"), [(0.0, 0), (1.0, 255), (0.5 / 255, 0), (1.5 / 255, 2), (0.5, 128), (0.25, 64), (254.4 / 255, 254)]
)
def test_bytes_are_rounded_half_to_even(unit: float, byte: int) -> None:
    assert to_uint8(np.full((1, 1, 1, 3), unit, np.float32)).tolist() == [[[[byte] * 3]]]


@pytest.mark.torch
def test_bytes_are_those_of_diffusers() -> None:
    torch = pytest.importorskip("torch")
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor()
    samples = np.random.default_rng(0).normal(size=(2, 3, 16, 24)).astype(np.float32)
    expected = processor.postprocess(torch.from_numpy(samples), output_type="pil")
    own = to_pil(to_uint8(to_unit(samples)))
    assert [image.size for image in own] == [(24, 16), (24, 16)]
    assert [image.tobytes() for image in own] == [image.tobytes() for image in expected]
