"""An order to a checked job of the runtime: its pictures opened from memory, its options read. Workers and the server both do it."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sd2rt.engine.errors import InvalidArgument, first_line
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import Job, resolve
from sd2rt.serve.jpeg_scans import MOST_SCANS, has_many_scans
from sd2rt.serve.order import Order

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
ORIENTATION, SWAPPED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap the sides


def resolve_order(order: Order, bundle: Bundle) -> Job:
    """Return the job of an order, with what a file of the command line would have it remember. Raises InvalidArgument, BundleError."""
    pictures = {name: _read_upload(name, content) for name, content in order.pictures.items()}
    arguments: dict[str, Any] = {**order.options, **pictures}
    job = resolve(Request(**arguments), bundle)
    if job.source is None:
        return job
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in order.pictures.items()}
    source = replace(job.source, image_sha256=(sha256.get("image"),), mask_sha256=sha256.get("mask"), depth_sha256=sha256.get("depth"))
    return replace(job, source=source)


def open_upload(name: str, content: bytes) -> Image:
    """Return a picture that a client sent, its size known and nothing else decoded.

    Raises InvalidArgument for what is none, and a JPEG file that would take long to decode, whatever its size.
    """
    from PIL import Image

    from sd2rt.runtime.image_input import DAMAGE

    try:
        with warnings.catch_warnings(action="ignore"):  # on sizes, which are checked by others
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise InvalidArgument(f"{name}: got a picture of more pixels than any that is taken; scale it down") from None
    except DAMAGE as error:
        what = f"{name}: got {len(content):,} bytes that are no picture"  # Pillow's own words name an address in memory
        raise InvalidArgument(f"{what}; expected a file of {', '.join(FORMATS)}") from error
    if opened.format not in ("PNG", "WEBP") and has_many_scans(content):
        raise InvalidArgument(f"{name}: got a JPEG file of more than {MOST_SCANS} scans; expected at most that: save it anew")
    return opened


def upload_sizes(pictures: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
    """Return height and width of pictures that a client sent, upright, without decoding them. Raises InvalidArgument."""
    sizes = {}
    for name, content in pictures.items():
        opened = open_upload(name, content)
        says = opened.format != "PNG" or "exif" in opened.info  # for others Pillow would decode a PNG, to look behind its pixels
        turned = says and opened.getexif().get(ORIENTATION, 1) in SWAPPED
        sizes[name] = (opened.width, opened.height) if turned else (opened.height, opened.width)
    return sizes


def _read_upload(name: str, content: bytes) -> Image:
    from PIL import Image

    from sd2rt.runtime.image_input import DAMAGE

    picture = open_upload(name, content)
    try:
        with warnings.catch_warnings(action="ignore"):
            picture.load()
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidArgument(f"{name}: got a damaged file ({first_line(error)}); expected a picture: {', '.join(FORMATS)}") from None
    return picture
