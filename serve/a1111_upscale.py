"""`extra-single-image`: a picture enlarged by a model or by resizing alone, to the size that was asked for."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.a1111_bodies import Extras
from sd2rt.serve.given_pictures import open_given, write_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from sd2rt.serve.offers import OfferedModel

PLAIN = ("None", "Lanczos", "Nearest")
"""Without a model; "None" leaves the picture as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A size (width, height) to resize to, and one that is then cut out of the middle."""

    size: tuple[int, int]
    cut: tuple[int, int]


def check_extras(body: Extras, models: Sequence[OfferedModel]) -> None:
    """Refuse what cannot be done. Raises InvalidArgument."""
    names = [*PLAIN, *(model.name for model in models if model.task == "upscaling")]
    if body.upscaler_1 not in names:
        raise InvalidArgument(f"upscaler_1: got {body.upscaler_1[:80]!r}; expected one of {', '.join(names)}")
    if body.upscaler_2 != "None" and body.extras_upscaler_2_visibility:
        raise InvalidArgument("upscaler_2: got a second one, but results are not mixed here; leave it out")
    for name in ("gfpgan_visibility", "codeformer_visibility"):
        if getattr(body, name):
            raise InvalidArgument(f"{name}: got more than 0, but faces are not restored here; leave it out")


def find_target(body: Extras, own: tuple[int, int], most_pixels: int) -> Target:
    """Return what a picture of size `own` (width, height) becomes. Raises InvalidArgument for more than `most_pixels`."""
    wanted = (body.upscaling_resize_w, body.upscaling_resize_h)
    scale = max(want / have for want, have in zip(wanted, own, strict=True)) if body.resize_mode == 1 else body.upscaling_resize
    size = (max(round(own[0] * scale), 1), max(round(own[1] * scale), 1))
    if size[0] * size[1] > most_pixels:
        raise InvalidArgument(f"upscaling_resize: got {size[0]:,} x {size[1]:,} pixels to make; expected at most {most_pixels:,} of them")
    return Target(size=size, cut=wanted if body.resize_mode == 1 and body.upscaling_crop else size)


def enlarge(image: Image, target: Target, *, nearest: bool = False) -> Image:
    """Resize a picture and cut out its middle."""
    from PIL import Image

    if image.size != target.size:
        image = image.resize(target.size, Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS)
    if target.cut == target.size:
        return image
    left, top = ((side - part) // 2 for side, part in zip(target.size, target.cut, strict=True))
    return image.crop((left, top, left + target.cut[0], top + target.cut[1]))


def resize_alone(content: bytes, body: Extras, most_pixels: int) -> bytes:
    """Enlarge a picture without a model. Raises InvalidArgument."""
    image = open_given("image", content, most_pixels)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if body.upscaler_1 == "None":
        return write_png(image)
    return write_png(enlarge(image, find_target(body, image.size, most_pixels), nearest=body.upscaler_1 == "Nearest"))


def resize_painted(painted: bytes, target: Target) -> bytes:
    """Bring a picture that a model enlarged to the size asked for; as it is, with its record, where it has it already.

    Else the file says how it was enlarged as the web UI's text does; our own record, of the larger picture, is left out.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image = Image.open(io.BytesIO(painted))
    if image.size == target.size == target.cut:
        return painted
    text = image.info.get("parameters")
    chunks = PngInfo()
    if isinstance(text, str):
        chunks.add_text("parameters", f"{text}, Postprocess size: {target.cut[0]}x{target.cut[1]}")
    stream = io.BytesIO()
    enlarge(image, target).save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()
