"""Pictures that clients send, where an API has to open or change them before they go into an order.

Only what an order may carry is opened: PNG, JPEG and WebP, of as many pixels as the server takes, checked before decoding.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.resolve_order import open_upload

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.picture_file import Format


def open_given(name: str, content: bytes, most_pixels: int) -> Image:
    """Decode a file and turn it upright. Raises InvalidArgument for another format, damage, and more than `most_pixels`."""
    from PIL import Image, ImageOps

    from sd2rt.runtime.image_input import DAMAGE

    image = open_upload(name, content)
    if not 0 < image.width * image.height <= most_pixels:
        size = f"{image.width:,} x {image.height:,} pixels (width x height)"
        raise InvalidArgument(f"{name}: got {size}; expected at most {most_pixels:,} of them: scale it down")
    try:
        with warnings.catch_warnings(action="ignore"):
            return ImageOps.exif_transpose(image)
    except (*DAMAGE, Image.DecompressionBombError):
        raise InvalidArgument(f"{name}: got a damaged file; expected a sound PNG, JPEG or WebP file") from None


def write_png(image: Image) -> bytes:
    """Return a PIL image as a PNG file without any text."""
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=None)
    return stream.getvalue()


def write_again(png: bytes, form: Format, quality: int) -> bytes:
    """Return a PNG file of our own as one of another format, without any text; as it is where PNG is asked for."""
    from PIL import Image

    if form == "png":
        return png
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, form.upper(), quality=quality)
    return stream.getvalue()


def paint_where_transparent(content: bytes, most_pixels: int) -> bytes:
    """Return a mask whose transparent parts are to be painted as one that is white there, the way of orders: a gray PNG file.

    What is half transparent is gray. Raises InvalidArgument for a mask that is nowhere transparent, and as `open_given`.
    """
    from PIL import Image, ImageChops

    image = open_given("mask", content, most_pixels)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else Image.new("L", image.size, 255)
    if alpha.getextrema()[0] == 255:
        raise InvalidArgument("mask: got a picture that is nowhere transparent; expected one that is transparent where to paint")
    return write_png(ImageChops.invert(alpha))
