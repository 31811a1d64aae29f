"""Pictures that a caller gives, as files, PIL images or arrays, to the numbers that models take.

Pictures are uint8 [H, W, 3]; every kind of file ends there or is refused in one line, before it is decoded if it is too large.
Knows no model: sizes and factors come in as arguments.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource = Union[str, Path, "Image", npt.NDArray[Any]]
"""A file, a PIL image, or an array [H, W, 3] or [H, W] of uint8, bool, or floats in [0, 1]."""
Picture = npt.NDArray[np.uint8]

MAX_PIXELS = 100_000_000  # 10,000 x 10,000; 0.3 GB as bytes, and half of what Pillow itself takes for an attack
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")  # no EPS: Pillow would start Ghostscript
DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, ArithmeticError, RuntimeError, struct.error, zlib.error)
"""What Pillow raises on files that are damaged or no images at all, its own errors included; RuntimeError comes from AVIF."""


def read_image(name: str, source: ImageSource) -> Picture:
    """Return a picture as uint8 [H, W, 3]; `name` is what messages call it.

    EXIF orientation is applied; what is transparent lies on white; 16-bit gray is scaled; of an animation the first frame (of an
    open PIL image the current one) counts. CMYK, palettes and so on become RGB as Pillow converts them; colour profiles are ignored.
    Raises InvalidArgument for what is missing, damaged, empty, larger than MAX_PIXELS, or an array of another shape or range.
    """
    if isinstance(source, np.ndarray):
        picture = read_array(name, source)
        return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    return np.array(flatten(name, open_picture(name, source), "white"))


def file_sha256(name: str, source: ImageSource | None) -> str | None:
    """Return the SHA-256 of a file that was read already, in hexadecimal; None for what is no file. Raises InvalidArgument."""
    if not isinstance(source, str | Path):
        return None
    try:
        with open(source, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidArgument(f"{name}: cannot read {source} a second time ({error.strerror}); expected a file that stays") from None


def fit_image(image: Picture, size: tuple[int, int]) -> Picture:
    """Resize a picture [H, W, 3] to (height, width) with Pillow's Lanczos filter, as diffusers' VaeImageProcessor does."""
    from PIL import Image

    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.LANCZOS))


def pad_image(image: Picture, size: tuple[int, int]) -> Picture:
    """Let the last row and column of a picture [H, W, 3] go on to (height, width)."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="edge")


def to_model(image: Picture) -> npt.NDArray[np.float32]:
    """Turn a picture [H, W, 3] into what a VAE encoder takes: float32 [1, 3, H, W] in [-1, 1], bit for bit as diffusers."""
    unit: npt.NDArray[np.float32] = image.astype(np.float32) / np.float32(255.0)
    return np.ascontiguousarray((np.float32(2.0) * unit - np.float32(1.0)).transpose(2, 0, 1)[None])


def open_picture(name: str, source: str | Path | Image) -> Image:
    """Return a file or a PIL image decoded and upright, in its own mode. Raises InvalidArgument as read_image."""
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        opened, label = source, "a PIL image"
    elif isinstance(source, str | Path):
        label = str(source)
    else:
        raise InvalidArgument(f"{name}: got {type(source).__name__}; expected a file's path, a PIL image or a numpy array")
    try:
        with warnings.catch_warnings(action="ignore"):  # on damaged metadata, and on sizes that are checked here
            if isinstance(source, Image.Image):
                check_size(name, opened.size)
                return ImageOps.exif_transpose(opened)
            with Image.open(source, formats=FORMATS) as opened:
                check_size(name, opened.size)
                return ImageOps.exif_transpose(opened)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidArgument(f"{name}: cannot open {label} ({error.strerror}); expected an image file") from None
    except InvalidArgument:
        raise
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidArgument(f"{name}: cannot read {label} ({first_line(error)}); expected an image: {', '.join(FORMATS)}") from error


def flatten(name: str, image: Image, ground: str) -> Image:
    """Return a PIL image in RGB, what is transparent laid on the colour `ground`. Raises InvalidArgument as convert and read_grays."""
    from PIL import Image

    if image.mode[0] in "IF":
        image = Image.fromarray(read_array(name, read_grays(name, image)))
    if not image.has_transparency_data:
        return convert(name, image, "RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), convert(name, image, "RGBA")).convert("RGB")


def convert(name: str, image: Image, mode: str) -> Image:
    """Return a PIL image in another mode. Raises InvalidArgument where Pillow has no way to it (from La, premultiplied gray)."""
    try:
        return image.convert(mode)
    except ValueError as error:
        raise InvalidArgument(f"{name}: got an image in mode {image.mode} ({error}); convert it to RGB or RGBA first") from None


def read_grays(name: str, image: Image) -> npt.NDArray[np.float64]:
    """Return the grays of a PIL image of 16 or 32 bits (modes I;16, I, F) as floats [H, W], integers divided by 65535.

    Raises InvalidArgument for 32-bit integers that do not fit into 16 bits.
    """
    grays = np.asarray(image)
    if grays.dtype.kind == "f":
        return grays.astype(np.float64)
    if grays.min() < 0 or grays.max() > 65535:
        raise InvalidArgument(f"{name}: got 32-bit grays from {grays.min()} to {grays.max()}; expected 8 or 16 bits (0 to 65535)")
    return grays / 65535.0


def read_array(name: str, array: npt.NDArray[Any]) -> Picture:
    """Return an array of bytes, bools, or floats in [0, 1] as bytes, [H, W, 3] or [H, W] as it came. Raises InvalidArgument."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InvalidArgument(f"{name}: got an array of shape {list(array.shape)}; expected [H, W, 3] or [H, W]")
    check_size(name, (array.shape[1], array.shape[0]))
    if array.dtype.kind not in "fb" and array.dtype != np.uint8:
        raise InvalidArgument(f"{name}: got an array of {array.dtype}; expected uint8, or floats from 0 to 1")
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())  # either is NaN when any number is
    if not (low >= 0.0 and high <= 1.0):
        raise InvalidArgument(f"{name}: got floats from {low:g} to {high:g}; expected finite ones from 0 to 1, or uint8")
    return np.rint(array * (255.0 if array.dtype.kind == "b" else array.dtype.type(255.0))).astype(np.uint8)


def check_size(name: str, size: tuple[int, int]) -> None:
    """Raise InvalidArgument unless (width, height) holds at least one and at most MAX_PIXELS pixels."""
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        limits = f"at least 1 and at most {MAX_PIXELS:,} pixels; scale it down first" if width * height else "at least 1 x 1"
        raise InvalidArgument(f"{name}: got {width:,} x {height:,} pixels (width x height); expected {limits}")
