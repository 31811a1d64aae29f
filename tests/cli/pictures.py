"""Picture files of every kind that a caller may come with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 48)  # width, height


def colours(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Smooth colours with some detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def see_through() -> Image.Image:
    image = colours().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(colours().convert("L")).astype(np.uint16) * 257)


def box_mask(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """White in the right half of the middle rows, whatever the size."""
    array = np.zeros((size[1], size[0]), np.uint8)
    array[size[1] // 4 : 3 * size[1] // 4, size[0] // 2 :] = 255
    return Image.fromarray(array)


KINDS: dict[str, Callable[[], Image.Image]] = {
    "rgb.png": colours,
    "gray.png": lambda: colours().convert("L"),
    "rgba.png": see_through,
    "16-bit.png": sixteen_bit,
    "cmyk.jpg": lambda: colours().convert("CMYK"),
    "palette.gif": lambda: colours().convert("P"),
    "1x1.png": lambda: colours((1, 1)),
    "odd.webp": lambda: colours((61, 43)),
}


def write_pictures(folder: Path) -> None:
    """Write all kinds, `rotated.jpg` with an EXIF orientation, `mask.png`, and `text.png`, which is no picture."""
    for name, make in KINDS.items():
        make().save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    colours().save(folder / "rotated.jpg", exif=exif)
    box_mask().save(folder / "mask.png")
    (folder / "text.png").write_text("no picture")
