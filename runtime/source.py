"""What a picture that a call brings along is to a task: plain arrays of one size, and how much of them is given up.

Knows no file and no engine. `read_source` makes them, the tasks' own modules turn them into latents and channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.options import Borders
from sd2rt.runtime.picture_size import Size

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
DEFAULT_NOISE_LEVEL = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Pictures of one size. `images` uint8 [1 or P, H, W, 3], P the number of prompts, or None where depth comes alone.

    `mask` float32 [H, W] is 1 where the picture is painted anew and 0 where it is kept; `paste`, as large, is how much of what is
    painted the result takes, None: all. `depth` float32 [h, w] of any size, larger is nearer. `height` and `width` are those to paint, in
    pixels; the result is cut to (height, width) of `crop` where there is one. `scaled_from` is what a picture had that was too large.
    `originals` are `images` as they were given, for the depth estimator; None where they had that size already.
    The SHA-256s, one for each of `images`, are those of the files given, None for what was no file.
    """

    height: int
    width: int
    images: Bytes | None
    originals: Bytes | None = None
    mask: Floats | None = None
    paste: Floats | None = None
    depth: Floats | None = None
    strength: float = 1.0
    noise_level: int = DEFAULT_NOISE_LEVEL
    image_sha256: tuple[str | None, ...] = (None,)
    mask_sha256: str | None = None
    depth_sha256: str | None = None
    mask_blur: float = 0.0
    invert: bool = False
    expand: Borders | None = None
    crop: Size | None = None
    scaled_from: Size | None = None

    @property
    def result_size(self) -> Size:
        """Height and width of the pictures that come out."""
        return self.crop or (self.height, self.width)


def first_step(steps: int, strength: float) -> int:
    """Return how many of `steps` a strength in [0, 1] leaves out, as diffusers counts. Raises InvalidArgument when none is left."""
    left = min(int(steps * strength), steps)
    if left < 1:
        few = steps == 1 and strength
        hint = (
            f"raise steps to at least {least_steps(strength)}, or strength to 1" if few else f"expected at least {least_strength(steps):g}"
        )
        raise InvalidArgument(f"strength: got {strength:g}, which leaves none of {steps} steps; {hint}")
    return steps - left


def least_strength(steps: int) -> float:
    """Return a strength of three decimals, the smallest that leaves one of `steps`, at least 1."""
    return math.ceil(1000 / steps) / 1000


def least_steps(strength: float) -> int:
    """Return of how many steps a strength above 0, up to 1, leaves at least one."""
    needed = math.ceil(1 / max(strength, 1e-9))  # finite; no run has a billion steps
    return needed + (int(needed * strength) < 1)  # 1 / 49 in floats is a little less
