"""A picture on a larger canvas, and the mask of what outpainting has to fill. Knows no model and no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.image_input import Picture, check_size

if TYPE_CHECKING:
    from sd2rt.runtime.mask import Mask

OVERLAP_PIXELS = 16  # two latents: the seam lies on repainted ground, and the model sees where the picture ends
BLUR_SHARE = 0.25  # of the widest margin: replicated edges lose their streaks and keep their colours


def expand_canvas(
    image: Picture, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, overlap: int = OVERLAP_PIXELS
) -> tuple[Picture, Mask]:
    """Put a picture, uint8 [H, W, 3], on a canvas with margins in pixels; return the canvas and its mask, 1 on what to paint.

    The margins hold the picture's edges, replicated and blurred: colours to start from at strengths below 1 (at 1, and for
    9-channel models, they do not count). The picture's own pixels are unchanged. The mask covers the margins and `overlap` pixels
    of the picture beside each, but never its middle row and column. Raises InvalidArgument for margins below 0, none at all, or a
    canvas of more than MAX_PIXELS.
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
    across, down = (min(overlap, (side - 1) // 2) for side in (width, height))
    mask = np.ones(canvas.shape[:2], np.float32)
    rows = slice(top + (down if top else 0), top + height - (down if bottom else 0))
    columns = slice(left + (across if left else 0), left + width - (across if right else 0))
    mask[rows, columns] = 0.0
    return canvas, mask
