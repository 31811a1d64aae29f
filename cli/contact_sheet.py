"""A contact sheet: pictures in columns and rows with their labels, blocks of them below each other, a title above. Knows no option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

MAX_PIXELS = 100_000_000  # what pictures may have that are read
MARGIN = 8
FONT = (11, 24)  # sizes in pixels: a fourteenth of a cell's width between them
LEAST_LABEL = 72  # pixels of width for the labels of rows
LINES = 6  # of a label at most
PAPER, INK, EMPTY = "white", "black", "#cccccc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Words at the columns, the rows and the blocks, one for each; none where there is one column, row or block without a name."""

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    blocks: Sequence[str]


class Sheet:
    """The geometry of a sheet for cells of at most `cell` (width, height) pixels; `counts` are columns, rows and blocks."""

    def __init__(self, labels: Labels, counts: tuple[int, int, int], cell: tuple[int, int]) -> None:
        """Lay it out. Raises InvalidArgument for more than MAX_PIXELS."""
        from PIL import ImageFont

        self._cell, self._counts = cell, counts
        self._size = min(max(cell[0] // 14, FONT[0]), FONT[1])
        self._font = ImageFont.load_default(self._size)
        label_width = max(min(cell[0], 12 * self._size), LEAST_LABEL)
        self._rows = [self._wrap(label, label_width) for label in labels.rows]
        self._columns = [self._wrap(label, max(cell[0], LEAST_LABEL)) for label in labels.columns]
        self._left = MARGIN + max((self._width(line) + MARGIN for lines in self._rows for line in lines), default=0)
        self._step = (
            max([cell[0], *(self._width(line) for lines in self._columns for line in lines)]) + MARGIN,
            self._row_height() + MARGIN,
        )
        width = self._left + counts[0] * self._step[0]
        self._title = self._wrap(labels.title, max(width, 20 * self._size) - 2 * MARGIN)
        self._blocks = [self._wrap(label, width - 2 * MARGIN) for label in labels.blocks]
        self._top = MARGIN + self._height(self._title)
        self._block = self._height(self._columns) + max(map(self._height, self._blocks), default=0) + counts[1] * self._step[1]
        width = max([width, *(self._width(line) + 2 * MARGIN for line in self._title)])
        self.size = (width, self._top + counts[2] * self._block)
        if width * self.size[1] > MAX_PIXELS:
            got = f"{width:,} x {self.size[1]:,} pixels"
            raise InvalidArgument(f"a sheet of {got}; expected at most {MAX_PIXELS:,} in all: fewer or smaller cells, or several grids")

    def draw(self, cells: Mapping[tuple[int, int, int], Image]) -> Image:
        """Draw the sheet; `cells` are by column, row and block, those that are missing stay gray."""
        from PIL import Image, ImageDraw

        sheet = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(sheet)

        def write(lines: Sequence[str], left: int, top: int) -> None:
            for number, line in enumerate(lines):
                pen.text((left, top + number * self._line()), line, INK, self._font)

        write(self._title, MARGIN, MARGIN)
        for block in range(self._counts[2]):
            top = self._top + block * self._block
            if self._blocks:
                write(self._blocks[block], MARGIN, top)
                top += max(map(self._height, self._blocks))
            for column, lines in enumerate(self._columns):
                write(lines, self._left + column * self._step[0], top)
            top += self._height(self._columns)
            for row, lines in enumerate(self._rows):
                write(lines, MARGIN, top + row * self._step[1])
            for x, y, corner in self._corners(top):
                cell = cells.get((x, y, block))
                if cell is None:
                    pen.rectangle((*corner, corner[0] + self._cell[0] - 1, corner[1] + self._cell[1] - 1), EMPTY)
                else:
                    sheet.paste(cell, corner)
        return sheet

    def _corners(self, top: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield column, row and upper left corner of a block's cells."""
        for y in range(self._counts[1]):
            for x in range(self._counts[0]):
                yield x, y, (self._left + x * self._step[0], top + y * self._step[1])

    def _row_height(self) -> int:
        return max([self._cell[1], *(len(lines) * self._line() for lines in self._rows)])

    def _line(self) -> int:
        return self._size * 5 // 4

    def _height(self, lines: Sequence[str] | Sequence[Sequence[str]]) -> int:
        """Return how high lines are, or the highest of several labels, with the margin below; 0 for none."""
        most = max((len(label) for label in lines if not isinstance(label, str)), default=len(lines)) if lines else 0
        return most * self._line() + MARGIN if most else 0

    def _width(self, text: str) -> int:
        return round(self._font.getlength(text))

    def _wrap(self, text: str, width: int) -> list[str]:
        """Break a text into at most LINES lines of a width, between words where it can be."""
        lines = [""]
        for word in text.split():
            joined = f"{lines[-1]} {word}".strip()
            if self._width(joined) <= width:
                lines[-1] = joined
                continue
            lines += [""] if lines[-1] else []
            for character in word:
                if lines[-1] and self._width(lines[-1] + character) > width:
                    lines.append("")
                lines[-1] += character
        kept = [line for line in lines if line]
        return kept if len(kept) <= LINES else [*kept[: LINES - 1], kept[LINES - 1][:-1] + "…"]
