"""Unfinished pictures while they are painted: drawn in a terminal that can, else written to a file that each replaces.

`watch` has what a command line asks for; here is what comes of it for one run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sd2rt.cli.output import free_names
from sd2rt.cli.watch import Watch, check_kind, choose_graphics, make_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.cli.terminal_pictures import Graphics
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.result import State

LINES = 16  # of a terminal, that a preview is high at most
CELL_PIXELS = 20  # height of a line where the terminal does not say
SHEET_PIXELS = 1024  # a side at most


class Preview:
    """The previews of one run of what goes to `out`. What is written beside `out` replaces nothing, and goes when the run has ended."""

    def __init__(self, watch: Watch, bundle: Bundle, out: Path) -> None:
        """Check what is asked for. Raises InvalidArgument for a decoder that the bundle has not, for what cannot be written or drawn."""
        self._watch = watch
        self._kind = check_kind(watch, bundle)
        self._graphics = None if self._kind is None else choose_graphics(watch.show)
        self._out = out
        self._file: Path | None = None
        self._lines = 0  # that are drawn on
        if self._kind is not None and watch.folder is not None:
            make_folder(watch.folder)

    @contextlib.contextmanager
    def running(self, *, draw: bool = True) -> Iterator[Path | None]:
        """Give the one file that previews are written to, if any; `draw` says whether the terminal may be drawn on.

        At the end the cursor goes below the picture, and the file is removed.
        """
        if not draw:
            self._graphics = None
        if self._kind is not None and self._graphics is None and self._watch.folder is None:
            self._file = next(free_names(self._out.with_name(f"{self._out.stem[:100]}-preview.png")))
        try:
            yield self._file
        finally:
            if self._lines:
                click.echo(f"\033[{self._lines}B", err=True, color=True)
                self._lines = 0
            if self._file is not None:
                self._file.unlink(missing_ok=True)
                self._file = None

    def after(self, state: State) -> None:
        """Show the picture foreseen after a step, if it is time; not after the last one, whose picture is about to come."""
        done = state.index + 1
        if self._kind is None or done % self._watch.every or done == state.total:
            return
        sheet = tile_pictures(state.preview(self._kind))
        if self._graphics is not None:
            self._draw(sheet, self._graphics)
        if self._watch.folder is not None:
            replace_picture(sheet, self._watch.folder / f"{self._out.stem[:100]}-step-{done:03}.png")
        if self._file is not None:
            replace_picture(sheet, self._file)

    def _draw(self, sheet: Image, graphics: Graphics) -> None:
        """Draw below the line of progress, and put the cursor back there."""
        from sd2rt.cli.terminal_pictures import encode_picture

        lines, line_pixels = measure_terminal()
        if not self._lines:
            self._lines = max(min(LINES, lines - 3), 1)
            room = "\n" * (self._lines + 1) + f"\033[{self._lines + 1}A"  # scrolls now, where the screen ends
            click.echo(room, err=True, nl=False, color=True)
        fitted = fit(sheet, self._lines * line_pixels) if graphics == "sixel" else sheet
        click.echo(f"\0337\r\n{encode_picture(fitted, graphics, self._lines)}\0338", err=True, nl=False, color=True)
        sys.stderr.flush()


def replace_picture(image: Image, path: Path) -> None:
    """Write a PNG whole, in place of what `path` had; one that cannot be written is left out, and the run goes on."""
    part = path.with_name(f".sd2rt-{os.urandom(8).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as stream:
            image.save(stream, "PNG", compress_level=1)
        part.replace(path)
    except OSError:
        return
    finally:
        part.unlink(missing_ok=True)


def tile_pictures(images: Sequence[Image]) -> Image:
    """Put pictures of one size beside each other, as near to a square as they come, at most SHEET_PIXELS a side."""
    from PIL import Image

    across = ceil(len(images) ** 0.5)
    width, height = images[0].size
    sheet = Image.new("RGB", (width * across, height * ceil(len(images) / across)))
    for index, image in enumerate(images):
        sheet.paste(image, (index % across * width, index // across * height))
    return fit(sheet, SHEET_PIXELS)


def fit(image: Image, pixels: int) -> Image:
    """Scale a picture down so that no side has more pixels."""
    scale = pixels / max(image.size)
    if scale >= 1:
        return image
    return image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))


def measure_terminal() -> tuple[int, int]:
    """Return how many lines the terminal on stderr has, and how many pixels high each is, as far as it says."""
    try:
        import fcntl
        import struct
        import termios

        lines, _, _, height = struct.unpack("4H", fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8))
    except (ImportError, OSError, ValueError):
        return LINES + 3, CELL_PIXELS
    return lines or LINES + 3, height // lines if lines and height else CELL_PIXELS
