"""`png-info`: what a picture that a client sends says of how it was made."""

from __future__ import annotations

import io

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import read_web_ui_text, web_ui_text
from sd2rt.runtime.metadata import TextTooLong, read_texts
from sd2rt.runtime.parameters import read_json
from sd2rt.serve.a1111_replies import PngInfoReply
from sd2rt.serve.resolve_order import open_upload


def read_png_info(content: bytes, most_pixels: int) -> PngInfoReply:
    """Return the web UI's text, taken apart as `parameters`, and our own record among `items`; nothing where there is nothing.

    A picture with our record alone gets the text from it. Raises InvalidArgument for what is no picture, and one of too many pixels
    or characters.
    """
    image = open_upload("image", content)
    if image.width * image.height > most_pixels:
        raise InvalidArgument(f"image: got {image.width:,} x {image.height:,} pixels; expected at most {most_pixels:,} of them")
    try:
        ours, text = read_texts(io.BytesIO(content), "image")
    except TextTooLong:
        raise
    except InvalidArgument:
        raise InvalidArgument("image: got a damaged file; expected a sound PNG, JPEG or WebP file") from None
    if text is None and ours is not None:
        text = web_ui_text(read_json(ours)[0])
    return PngInfoReply(info=text or "", items={} if ours is None else {"sd2rt": ours}, parameters=_pairs(text or ""))


def _pairs(text: str) -> dict[str, str]:
    """Return the parts of a text under the names that the web UI gives them."""
    read = read_web_ui_text(text)
    if read is None:
        return {}
    sides = read.pairs.get("Size", "").split("x")
    size = {f"Size-{number}": side for number, side in enumerate(sides, 1)} if len(sides) == 2 else {}
    return {"Prompt": read.prompt, "Negative prompt": read.negative_prompt, **read.pairs, **size}
