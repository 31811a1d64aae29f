"""The web UI's ways to bring a picture to a size of another shape: stretch it, crop it, or fill what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.given_pictures import open_given, write_png

if TYPE_CHECKING:
    from PIL.Image import Image

STRETCH, CROP, FILL = 0, 1, 2  # resize_mode


def fit_pictures(pictures: dict[str, bytes], size: tuple[int, int], mode: int, most_pixels: int) -> dict[str, bytes]:
    """Return a picture and its mask for a size (width, height): as they are where the runtime's stretching is what is wanted.

    Raises InvalidArgument for another mode than the three, and as `open_given`.
    """
    if mode == STRETCH:
        return pictures
    if mode not in (CROP, FILL):
        raise InvalidArgument(f"resize_mode: got {mode}; expected 0 to stretch, 1 to crop or 2 to fill")
    if not 0 < size[0] * size[1] <= most_pixels:
        raise InvalidArgument(f"width and height: got {size[0]:,} x {size[1]:,} pixels; expected at most {most_pixels:,} of them")
    fitted = {}
    for name, content in pictures.items():
        image = open_given(name, content, most_pixels)
        same_shape = image.width * size[1] == image.height * size[0]
        fitted[name] = content if same_shape else write_png(crop(image, size) if mode == CROP else fill(image, size))
    return fitted


def crop(image: Image, size: tuple[int, int]) -> Image:
    """Scale a picture to cover a size (width, height), and cut off what is too much at both sides."""
    from PIL import Image, ImageOps

    return ImageOps.fit(_plain(image), size, Image.Resampling.LANCZOS)


def fill(image: Image, size: tuple[int, int]) -> Image:
    """Scale a picture to fit into a size (width, height), in the middle, and let its edges go on over the rest."""
    import numpy as np
    from PIL import Image, ImageOps

    inner = np.asarray(ImageOps.contain(_plain(image), size, Image.Resampling.LANCZOS))
    rows, columns = size[1] - inner.shape[0], size[0] - inner.shape[1]
    around = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)]
    return Image.fromarray(np.pad(inner, around[: inner.ndim], mode="edge"))


def _plain(image: Image) -> Image:
    """Return a picture in a mode whose pixels can be mixed."""
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
