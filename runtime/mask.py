"""Masks of inpainting: 1 where to repaint, 0 where to keep. Inverting one is `1 - mask`. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.canvas import expand_canvas
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
    """A mask as it is painted, and as it is pasted: how much of each pixel is taken from what was painted. Both [H, W], in [0, 1]."""

    paint: Mask
    paste: Mask


def fit_mask(mask: Mask, size: tuple[int, int], blur: float = 0.0) -> Mask:
    """Resize a mask [H, W] to (height, width), make zeros and ones of it, and blur these; a gray of 0.5 or more is 1.

    As diffusers does it for masks in RGB or gray: Lanczos, then the threshold. (Masks in 1 bit or a palette it resizes to the
    nearest pixel; here they are all the same.) Raises InvalidArgument as blur_mask does.
    """
    from PIL import Image

    image = Image.fromarray(np.rint(mask * np.float32(255.0)).astype(np.uint8))
    grays = np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS))
    return blur_mask((grays >= 128).astype(np.float32), blur)


def fit_masks(masks: Masks, size: tuple[int, int], canvas: tuple[int, int], blur: float = 0.0) -> Masks:
    """Fit masks to a picture of `size` (height, width) at the top left of a canvas, on which their edges go on; then blur both.

    What `paint` keeps, `paste` keeps, and what it paints beside margins is pasted as gradually as before. With margins, whose filling is
    not to show, a blur takes nothing from either mask: it adds to them around. Raises InvalidArgument as blur_mask does.
    """
    from PIL import Image

    around = tuple((0, whole - part) for whole, part in zip(canvas, size, strict=True))
    hard = fit_mask(masks.paint, size)
    paint = np.pad(hard, around, mode="edge")
    if masks.paste is masks.paint:
        blurred = blur_mask(paint, blur)
        return Masks(paint=blurred, paste=blurred)
    soft = np.asarray(Image.fromarray(masks.paste).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    paste = np.pad(soft * hard, around, mode="edge")
    return Masks(paint=np.maximum(paint, blur_mask(paint, blur)), paste=np.maximum(paste, blur_mask(paste, blur)))


def prepare_masks(images: Sequence[Picture], asked: Request, overlap: int) -> tuple[list[Picture], Masks]:
    """Return pictures of one size, [H, W, 3] each, and the masks that a call asks for: read, inverted, the canvas expanded.

    A mask has a size of its own unless the canvas grew; `asked.expand` are four integers of 0 or more, `overlap` is expand_canvas's.
    Raises InvalidArgument as read_mask and expand_canvas do, for inverting no mask, and for a mask that leaves nothing to paint.
    """
    if asked.mask is None and asked.invert:
        raise InvalidArgument("invert: got no mask to invert; expected mask with it")
    size = images[0].shape[:2]
    mask = np.zeros(size, np.float32) if asked.mask is None else read_mask("mask", asked.mask)
    if asked.invert:
        mask = np.float32(1.0) - mask
    masks = Masks(paint=mask, paste=mask)
    if asked.expand is not None:
        left, top, right, bottom = asked.expand
        expanded = [expand_canvas(image, left, top, right, bottom, overlap) for image in images]
        images = [canvas for canvas, _ in expanded]
        inner = fit_mask(mask, (size[0], size[1]))
        paste = np.maximum(expanded[0][1], np.pad(inner, ((top, bottom), (left, right))))
        masks = Masks(paint=(paste > 0).astype(np.float32), paste=paste)
    if masks.paint.max() < 0.5:
        raise InvalidArgument("mask: got nothing to paint; expected white where to paint (invert swaps the two)")
    return list(images), masks


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
