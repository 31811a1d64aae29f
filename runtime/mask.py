"""Masks of inpainting: 1 where to repaint, 0 where to keep. Inverting one is `1 - mask`. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.canvas import expand_canvas
from sd2rt.runtime.checks import check_borders
from sd2rt.runtime.image_input import ImageSource, Picture, convert, flatten, open_picture, read_array

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.options import Request

Mask = npt.NDArray[np.float32]
"""float32 [H, W] in [0, 1]."""
MAX_BLUR_PIXELS = 256.0


def read_mask(name: str, source: ImageSource) -> Mask:
    """Return a mask as it is given, float32 [H, W] in [0, 1]: white is 1, repaint. `fit_mask` makes zeros and ones of its grays.

    A mask with transparency: if all that is visible has one colour, what is opaque is 1 whatever that colour is; otherwise it lies
    on black, so that what is transparent is kept. Arrays are as read_image's; uint8 of zeros and ones counts as 0 and 1. Raises
    InvalidArgument as read_image does.
    """
    if isinstance(source, np.ndarray):
        array = read_array(name, source)
        if source.dtype == np.uint8 and array.max() == 1:
            array = array * np.uint8(255)
        grays = array if array.ndim == 2 else _to_grays(array)
    else:
        image = open_picture(name, source)
        alpha = _alpha(name, image)
        grays = _to_grays(np.asarray(flatten(name, image, "black"))) if alpha is None else alpha
    return grays.astype(np.float32) / np.float32(255.0)


def fit_mask(mask: Mask, size: tuple[int, int], blur: float = 0.0) -> Mask:
    """Resize a mask [H, W] to (height, width), make zeros and ones of it, and blur these; a gray of 0.5 or more is 1.

    As diffusers does it for masks in RGB or gray: Lanczos, then the threshold. (Masks in 1 bit or a palette it resizes to the
    nearest pixel; here they are all the same.) Raises InvalidArgument as blur_mask does.
    """
    from PIL import Image

    image = Image.fromarray(np.rint(mask * np.float32(255.0)).astype(np.uint8))
    grays = np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS))
    return blur_mask((grays >= 128).astype(np.float32), blur)


def prepare_mask(images: Sequence[Picture], asked: Request, factor: int = 1) -> tuple[list[Picture], Mask]:
    """Return pictures of one size, [H, W, 3] each, and the mask that a call asks for: read, inverted, the canvas expanded.

    The mask has a size of its own unless the canvas grew. Where it grows, it grows on to a multiple of `factor` pixels, so that what is
    kept need not be resized; a side that it does not grow along stays as it is. Raises InvalidArgument as read_mask and expand_canvas
    do, for inverting no mask, and for a mask that leaves nothing to paint.
    """
    if asked.mask is None and asked.invert:
        raise InvalidArgument("invert: got no mask to invert; expected mask with it")
    size = images[0].shape[:2]
    mask = np.zeros(size, np.float32) if asked.mask is None else read_mask("mask", asked.mask)
    if asked.invert:
        mask = np.float32(1.0) - mask
    if asked.expand is not None:
        left, top, right, bottom = check_borders("expand", asked.expand)
        if asked.width is None and asked.height is None:
            left, right = grow_evenly(size[1], left, right, factor)
            top, bottom = grow_evenly(size[0], top, bottom, factor)
        expanded = [expand_canvas(image, left, top, right, bottom) for image in images]
        images = [canvas for canvas, _ in expanded]
        inner = fit_mask(mask, (size[0], size[1]))
        mask = np.maximum(expanded[0][1], np.pad(inner, ((top, bottom), (left, right))))
    if mask.max() < 0.5:
        raise InvalidArgument("mask: got nothing to paint; expected white where to paint (invert swaps the two)")
    return list(images), mask


def grow_evenly(side: int, before: int, after: int, factor: int) -> tuple[int, int]:
    """Widen the margins of a side until all of it is a multiple of `factor`: the last one, or the one there is. Without margins: none."""
    lacking = -(before + side + after) % factor if before or after else 0
    return (before, after + lacking) if after else (before + lacking, after)


def blur_mask(mask: Mask, radius: float) -> Mask:
    """Blur a mask [H, W] with a Gaussian of standard deviation `radius` pixels; the edge's values go on outside.

    Result in [0, 1]; a radius of 0 leaves the mask as it is. Raises InvalidArgument for a radius outside 0 to MAX_BLUR_PIXELS.
    """
    if not 0.0 <= radius <= MAX_BLUR_PIXELS:
        raise InvalidArgument(f"mask blur: got {radius:g}; expected a radius from 0 to {MAX_BLUR_PIXELS:g} pixels")
    reach = math.ceil(4.0 * radius)
    if not reach:
        return mask
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * np.square(offsets / radius))
    kernel /= kernel.sum()
    return _convolve_rows(_convolve_rows(mask, kernel).T, kernel).T.clip(0.0, 1.0)


def mask_to_latent(mask: Mask, factor: int) -> Mask:
    """Take a mask [H, W] to the latents' grid [H // factor, W // factor]: the nearest pixel, as torch's `interpolate` in diffusers.

    Nearest means the first of `factor` rows and columns, so a stroke thinner than `factor` may be lost, there as here.
    """
    rows, columns = (
        np.floor(np.arange(side // factor, dtype=np.float32) * np.float32(side / (side // factor))).astype(np.intp) for side in mask.shape
    )
    return mask[np.ix_(rows, columns)]


def paste_back(original: npt.NDArray[Any], painted: npt.NDArray[Any], mask: Mask) -> npt.NDArray[Any]:
    """Return `painted` where the mask [H, W] is 1 and `original` where it is 0, both exactly, and their mixture in between.

    Pictures [H, W, 3] are both of bytes or both of floats, and so is the result. Raises InvalidArgument when the three differ in size.
    """
    if original.shape != painted.shape or original.shape[:2] != mask.shape:
        shapes = ", ".join(str(list(array.shape)) for array in (original, painted, mask))
        raise InvalidArgument(f"paste_back: got original, painted and mask of shapes {shapes}; expected one height and width")
    share = mask[:, :, None]
    mixed: npt.NDArray[Any] = original * (np.float32(1.0) - share) + painted * share
    return np.rint(mixed).astype(np.uint8) if painted.dtype == np.uint8 else mixed


def _to_grays(picture: Picture) -> Picture:
    """Return a picture's luma, [H, W], as Pillow and so diffusers take it."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).convert("L"))


def _alpha(name: str, image: Image) -> Picture | None:
    """Return what is opaque, [H, W], where an image has one colour and transparency; None when its colours count."""
    if image.mode[0] in "IF" or not image.has_transparency_data:
        return None
    colours = np.asarray(convert(name, image, "RGBA"))
    alpha = colours[:, :, 3]
    visible = colours[alpha > 0]
    one_colour = visible.size and (visible[:, :3] == visible[0, :3]).all()
    return alpha if one_colour and alpha.min() < 255 else None


def _convolve_rows(values: Mask, kernel: npt.NDArray[np.float64]) -> Mask:
    """Convolve down the first axis of [H, W], the first and the last row going on outside."""
    reach = len(kernel) // 2
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(values)
    for offset, weight in enumerate(kernel.astype(np.float32)):
        total += weight * padded[offset : offset + len(values)]
    return total
