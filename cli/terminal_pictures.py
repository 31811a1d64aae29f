"""Pictures as the escape sequences that terminals draw: kitty's graphics protocol, iTerm's inline images, and DEC's sixels.

kitty: sw.kovidgoyal.net/kitty/graphics-protocol; iTerm: iterm2.com/documentation-images.html; sixels: DEC's VT330/VT340 Programmer
Reference, chapter 14. Knows no console; what a terminal understands is told from the variables that it sets.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Graphics = Literal["kitty", "iterm", "sixel"]
KITTY_CHUNK = 4096  # characters of one sequence at most
KITTY_ID = 7301  # a picture of the same id replaces the one before
SIXEL_COLOURS = 256
RUN = re.compile(r"([?-~])\1{3,}")
PROGRAMS: Mapping[str, Graphics] = {
    "iTerm.app": "iterm",
    "WezTerm": "iterm",
    "mintty": "iterm",
    "ghostty": "kitty",
    "contour": "sixel",
}
"""By TERM_PROGRAM."""
TERMS: Mapping[str, Graphics] = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty", "foot": "sixel", "mlterm": "sixel", "yaft": "sixel"}
"""By how TERM begins."""


def find_graphics(environment: Mapping[str, str]) -> Graphics | None:
    """Return what a terminal draws pictures with, as far as its variables tell; None too inside of tmux and screen, which swallow them."""
    term = environment.get("TERM", "")
    if environment.get("TMUX") or term.startswith(("tmux", "screen")):
        return None
    if environment.get("KITTY_WINDOW_ID"):
        return "kitty"
    if environment.get("LC_TERMINAL") == "iTerm2":  # which ssh passes on
        return "iterm"
    by_term = next((graphics for name, graphics in TERMS.items() if term.startswith(name)), None)
    return PROGRAMS.get(environment.get("TERM_PROGRAM", ""), by_term)


def encode_picture(image: Image, graphics: Graphics, rows: int) -> str:
    """Return what draws an RGB picture at the cursor, `rows` lines high; as sixels, as many pixels high as it is."""
    if graphics == "sixel":
        return encode_sixel(image)
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=1)
    text = base64.b64encode(png.getvalue()).decode()
    if graphics == "iterm":
        return f"\033]1337;File=inline=1;size={len(png.getvalue())};height={rows};preserveAspectRatio=1:{text}\a"
    return "".join(_kitty_chunks(text, rows))


def _kitty_chunks(text: str, rows: int) -> Iterator[str]:
    """Yield the sequences of a PNG in base64. q=2: the terminal does not answer, C=1: the cursor stays."""
    keys = f"a=T,f=100,i={KITTY_ID},p=1,q=2,C=1,r={rows},"
    for begin in range(0, len(text), KITTY_CHUNK):
        more = int(begin + KITTY_CHUNK < len(text))
        yield f"\033_G{keys if begin == 0 else ''}m={more};{text[begin : begin + KITTY_CHUNK]}\033\\"


def encode_sixel(image: Image) -> str:
    """Return an RGB picture as sixels: at most 256 colours, in bands of six rows, each colour's part of a band run-length encoded."""
    quantized = image.quantize(SIXEL_COLOURS)
    indices = np.asarray(quantized)
    palette = np.asarray(quantized.getpalette(), np.float64).reshape(-1, 3)
    used = np.unique(indices)
    registers = "".join("#{};2;{};{};{}".format(index, *np.rint(palette[index] / 2.55).astype(int)) for index in used)
    bands = "-".join(_sixel_band(indices[top : top + 6]) for top in range(0, len(indices), 6))
    return f'\033P0;1;0q"1;1;{image.width};{image.height}{registers}{RUN.sub(_shorten, bands)}\033\\'


def _sixel_band(band: npt.NDArray[np.uint8]) -> str:
    """Return up to six rows: for each of their colours a character per column, whose bits are the rows that have it."""
    colours, found = np.unique(band, return_inverse=True)
    codes = np.full((len(colours), band.shape[1]), ord("?"), np.uint8)
    for row, indices in enumerate(found.reshape(band.shape)):
        codes[indices, np.arange(band.shape[1])] += np.uint8(1 << row)
    return "$".join(f"#{colour}{line.tobytes().rstrip(b'?').decode()}" for colour, line in zip(colours, codes, strict=True))


def _shorten(run: re.Match[str]) -> str:
    """Write a run of one character as its length and itself."""
    return f"!{len(run[0])}{run[1]}"
