"""A picture on a larger canvas, and the mask of what outpainting has to fill. Knows no model and no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.image_input import Picture, check_size

if TYPE_CHECKING:
    from sd2rt.runtime.mask import Mask

OVERLAP_PIXELS = 16  # two of SD2's latents: the seam lies on repainted ground, and the model sees where the picture ends
NATIVE_SHARE = 32  # smaller models get less: this part of their native side, but a cell of their latents
BLUR_SHARE = 0.25  # of the widest margin: replicated edges lose their streaks and keep their colours


def choose_overlap(native_size: tuple[int, int], factor: int) -> int:
    """Return by how many pixels a model with latents of `factor` pixels repaints a picture beside a margin."""
    return min(OVERLAP_PIXELS, max(factor, min(native_size) // NATIVE_SHARE))


def expand_canvas(
    image: Picture, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, overlap: int = OVERLAP_PIXELS
) -> tuple[Picture, Mask]:
    """Put a picture, uint8 [H, W, 3], on a canvas with margins in pixels; return the canvas and its mask, above 0 on what to paint.

    The margins hold the picture's edges, replicated and blurred: colours to start from at strengths below 1 (at 1, and for
    9-channel models, they do not count). The picture's own pixels are unchanged. The mask is 1 on the margins, falls across the `overlap`
    pixels of the picture beside each, and is 0 on the rest, the picture's middle row and column among it. Raises InvalidArgument for
    margins below 0, none at all, or a canvas of more than MAX_PIXELS.
    """
    from PIL import Image, ImageFilter

    margins = {"left": left, "top": top, "right": right, "bottom": bottom}
    if min(margins.values()) < 0 or not any(margins.values()) or overlap < 0:
        got = ", ".join(f"{name} {pixels}" for name, pixels in {**margins, "overlap": overlap}.items())
        raise InvalidArgument(f"expand: got {got}; expected pixels of 0 or more, and at least one margin above 0")
    height, width = image.shape[:2]
    check_size("expand", (left + width + right, top + height + bottom))
    spread = np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="edge")
    canvas = np.array(Image.fromarray(spread).filter(ImageFilter.GaussianBlur(BLUR_SHARE * max(margins.values()))))
    canvas[top : top + height, left : left + width] = image
    return canvas, np.maximum.outer(_slope(top, height, bottom, overlap), _slope(left, width, right, overlap))


def _slope(before: int, side: int, after: int, overlap: int) -> npt.NDArray[np.float32]:
    """Return one axis of a canvas: 1 on the margins, a straight line down over the overlap beside each, 0 between."""
    within = min(overlap, (side - 1) // 2)
    line = (np.arange(within, dtype=np.float32) + np.float32(0.5)) / np.float32(max(within, 1))
    slope = np.zeros(before + side + after, np.float32)
    if before:
        slope[:before] = 1
        slope[before : before + within] = line[::-1]
    if after:
        slope[before + side :] = 1
        slope[before + side - within : before + side] = line
    return slope
