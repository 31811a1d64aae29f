"""One picture and one region of it, as every API wants to be told which part is to be painted."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
REGION = (8, 16, 39, 55)  # left, top, right, bottom: the pixels to paint, both ends among them


def picture() -> Image.Image:
    """Return a gray floor with a blue ball."""
    image = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    ImageDraw.Draw(image).ellipse((16, 20, 40, 44), fill=(30, 60, 200))
    return image


def white_mask() -> Image.Image:
    """Return a mask that is white where to paint, and gray files' mode."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).rectangle(REGION, fill=255)
    return mask


def black_mask() -> Image.Image:
    """Return a mask that is black where to paint."""
    return Image.eval(white_mask(), lambda value: 255 - value)


def transparent_mask() -> Image.Image:
    """Return the picture itself, transparent where to paint, as OpenAI's examples make it."""
    mask = picture()
    mask.putalpha(black_mask())
    return mask


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def text(image: Image.Image) -> str:
    """Return an image as a PNG file in base64."""
    return base64.b64encode(png(image)).decode()


def read(encoded: str) -> Image.Image:
    """Return the picture that a reply holds as base64."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def pixels(encoded: str) -> bytes:
    """Return the pixels of the picture that a reply holds as base64."""
    return np.asarray(read(encoded).convert("RGB")).tobytes()
