"""Decoded samples to pictures, with diffusers' rounding. Knows no model and no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image


def to_unit(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn a decoder's output [N, 3, H, W] in [-1, 1] into pictures [N, H, W, 3] in [0, 1]; what lies outside is clamped."""
    unit: npt.NDArray[np.float32] = np.clip(samples / np.float32(2.0) + np.float32(0.5), 0.0, 1.0)
    return unit.transpose(0, 2, 3, 1)


def to_uint8(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Turn pictures in [0, 1] into bytes, rounding half to even as diffusers does."""
    scaled: npt.NDArray[np.float32] = np.rint(pictures * np.float32(255.0))
    return scaled.astype(np.uint8)


def to_pil(pictures: npt.NDArray[np.uint8]) -> list[Image]:
    """Turn pictures in bytes, [N, H, W, 3], into PIL images."""
    from PIL import Image

    return [Image.fromarray(picture) for picture in pictures]
