"""The web UI's "inpaint only masked" (`inpaint_full_res`): the part of a picture around its mask is painted, as large as was asked, and
put back into the picture, which stays as it was outside the mask.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.mask import MAX_BLUR_PIXELS, Mask, fit_mask, read_mask
from sd2rt.serve.given_pictures import open_given, write_png

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.serve.order import Finished

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the last two lie outside."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A part of a picture, RGB, that is painted by itself. `mask` is as large as the picture, 1 where to paint."""

    picture: Image
    mask: Mask
    box: Box
    blur: float
    padding: int

    @property
    def text(self) -> str:
        """What the web UI's text says of it, after its other pairs."""
        return f", Inpaint area: Only masked, Masked area padding: {self.padding}"

    def pictures(self) -> dict[str, bytes]:
        """Return what an order carries: the part of the picture, and of its mask."""
        from PIL import Image

        left, top, right, bottom = self.box
        mask = Image.fromarray((self.mask[top:bottom, left:right] * 255).astype("uint8"))
        return {"image": write_png(self.picture.crop(self.box)), "mask": write_png(mask)}

    def put_back(self, finished: Finished) -> Finished:
        """Return finished pictures as the whole ones. Their files have the web UI's text; our record, of the part alone, is left out."""
        return replace(finished, pictures=self.wholes(finished.pictures))

    def wholes(self, painted: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return pictures of the part, finished or not, as files of the whole picture."""
        return tuple(map(self._paste, painted))

    def _paste(self, painted: bytes) -> bytes:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        left, top, right, bottom = self.box
        size = (right - left, bottom - top)
        image = Image.open(io.BytesIO(painted))
        share = fit_mask(self.mask[top:bottom, left:right], (size[1], size[0]), self.blur)
        whole = self.picture.copy()
        patch = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        whole.paste(patch, (left, top), Image.fromarray((share * 255).round().astype("uint8")))
        chunks = PngInfo()
        if "parameters" in image.info:  # unfinished ones have none
            chunks.add_text("parameters", f"{image.info['parameters']}{self.text}")
        stream = io.BytesIO()
        whole.save(stream, "PNG", pnginfo=chunks)
        return stream.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """How a part is chosen: the size (width, height) that it is painted at, pixels around the mask, blur, and whether black is painted."""

    size: tuple[int, int]
    padding: int
    blur: float
    invert: bool


def cut_region(image: bytes, mask: bytes, around: Around, most_pixels: int) -> Region:
    """Return the part around a mask. Raises InvalidArgument for a mask that paints nothing, a blur too wide, and as `open_given`."""
    if not 0.0 <= around.blur <= MAX_BLUR_PIXELS:
        raise InvalidArgument(f"mask_blur: got {around.blur:g}; expected 0 to {MAX_BLUR_PIXELS:g} pixels")
    picture = _on_white(open_given("image", image, most_pixels))
    shares = read_mask("mask", open_given("mask", mask, most_pixels))
    hard = fit_mask(1 - shares if around.invert else shares, (picture.height, picture.width))
    if not hard.any():
        raise InvalidArgument("mask: got nothing to paint; expected white where to paint (inpainting_mask_invert swaps the two)")
    rows, columns = np.flatnonzero(hard.any(axis=1)), np.flatnonzero(hard.any(axis=0))
    margin = around.padding + math.ceil(3 * around.blur)
    left, right = _clip(int(columns[0]) - margin, int(columns[-1]) + 1 + margin, picture.width)
    top, bottom = _clip(int(rows[0]) - margin, int(rows[-1]) + 1 + margin, picture.height)
    ratio = around.size[0] / around.size[1]
    left, right = _widen(left, right, round((bottom - top) * ratio), picture.width)
    top, bottom = _widen(top, bottom, round((right - left) / ratio), picture.height)
    return Region(picture=picture, mask=hard, box=(left, top, right, bottom), blur=around.blur, padding=around.padding)


def _clip(begin: int, end: int, most: int) -> tuple[int, int]:
    return max(begin, 0), min(end, most)


def _widen(begin: int, end: int, wanted: int, most: int) -> tuple[int, int]:
    """Widen a stretch to `wanted` pixels, or as many as there are, by as much at both its ends where there is room."""
    wanted = min(wanted, most)
    if end - begin >= wanted:
        return begin, end
    begin = min(max((begin + end - wanted) // 2, 0), most - wanted)
    return begin, begin + wanted


def _on_white(image: Image) -> Image:
    """Return a picture in RGB, what is transparent on white."""
    from sd2rt.runtime.image_input import flatten

    return flatten("image", image, "white")
