"""Measure how well a painter follows captions: have held-out captions painted, judge the pictures, sum up. Knows no painter."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from textwrap import fill

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.captions import ExpectedSolid, is_held_out, write_caption
from sd2rt.toyworld.checker import ATTRIBUTES, Accuracy, Report, check, sum_up
from sd2rt.toyworld.vocabulary import COLOURS, FLOORS, PLACES, SHAPES, SIZES

# Captions in, one picture for each out: [S, S, 3] uint8 arrays or PIL images.
Painter = Callable[[list[str]], Sequence[npt.ArrayLike]]

_CELL, _TEXT, _MARGIN = 128, 46, 8  # pixels of a contact sheet
_LINE = 28  # characters that fit a cell
_RIGHT, _WRONG = (0, 130, 0), (200, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Captions, the pictures painted for them, and the verdicts, in the same order."""

    captions: tuple[str, ...]
    images: tuple[npt.ArrayLike, ...]
    reports: tuple[Report, ...]

    @property
    def accuracy(self) -> Accuracy:
        """The sum over all pictures."""
        return sum_up(self.reports)

    def table(self) -> str:
        """Give a Markdown table in per cent: captions of one solid, of two, and all."""
        groups = {name: [r for r in self.reports if len(r.findings) == count] for name, count in (("one solid", 1), ("two solids", 2))}
        rows = [_row(name, sum_up(reports)) for name, reports in groups.items() if reports]
        heads = ["captions", "pictures", *ATTRIBUTES, "count", "floor", "all right"]
        return "\n".join([_line(heads), _line(["---"] * len(heads)), *rows, _row("all", self.accuracy)])


def held_out_captions(count: int, seed: int = 0) -> list[str]:
    """Draw different full captions that no training run saw; half of them name one solid, as far as there are so many.

    Raises InvalidArgument for less than one or more than there are (38 of one solid, some 800 of two).
    """
    ones, twos = _held_out()
    if not 1 <= count <= len(ones) + len(twos):
        raise InvalidArgument(f"{count} held-out captions asked for; expected 1 to {len(ones) + len(twos)}, which is all there are")
    rng = np.random.default_rng(seed)
    of_one = max(min(count // 2, len(ones)), count - len(twos))
    drawn = [*rng.choice(ones, of_one, replace=False), *rng.choice(twos, count - of_one, replace=False)]
    return [str(caption) for caption in rng.permutation(drawn)]


def evaluate(paint: Painter, count: int, *, seed: int = 0, batch: int = 20) -> Evaluation:
    """Have `count` held-out captions painted, `batch` at a time, and judge the pictures.

    Raises InvalidArgument as held_out_captions does, ValueError when the painter returns more or fewer pictures than captions.
    """
    captions = held_out_captions(count, seed)
    images = [image for start in range(0, count, batch) for image in paint(captions[start : start + batch])]
    reports = tuple(check(image, caption) for image, caption in zip(images, captions, strict=True))
    return Evaluation(captions=tuple(captions), images=tuple(images), reports=reports)


def contact_sheet(images: Sequence[npt.ArrayLike], captions: Sequence[str], reports: Sequence[Report], columns: int = 8) -> Image.Image:
    """Lay pictures [S, S, 3] uint8 out with their captions and verdicts, wrong ones in red."""
    width, height = _CELL + _MARGIN, _CELL + _TEXT + _MARGIN
    sheet = Image.new("RGB", (columns * width + _MARGIN, -(-len(images) // columns) * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (image, caption, report) in enumerate(zip(images, captions, reports, strict=True)):
        x, y = _MARGIN + k % columns * width, _MARGIN + k // columns * height
        sheet.paste(Image.fromarray(np.asarray(image)).resize((_CELL, _CELL), Image.Resampling.NEAREST), (x, y))
        draw.rectangle((x - 2, y - 2, x + _CELL + 1, y + _CELL + 1), outline=_RIGHT if report.passed else _WRONG, width=2)
        draw.text((x, y + _CELL + 2), fill(caption, _LINE), fill="black", font_size=9, spacing=1)
        if (verdict := report.describe()) != "right":
            draw.text((x + 2, y + 2), fill(verdict, _LINE), fill="black", font_size=9, spacing=1, stroke_width=1, stroke_fill="white")
    return sheet


@cache
def _held_out() -> tuple[list[str], list[str]]:
    """Give every held-out caption of one solid, and of two."""
    ones = [write_caption([solid], floor) for place, floor in product(PLACES, FLOORS) for solid in _every_solid(place)]
    pairs = product(_every_solid("left"), _every_solid("right"), FLOORS)
    twos = [write_caption([left, right], floor) for left, right, floor in pairs]
    return [caption for caption in ones if is_held_out(caption)], [caption for caption in twos if is_held_out(caption)]


def _every_solid(place: str) -> Iterator[ExpectedSolid]:
    for size, colour, shape in product(SIZES, COLOURS, SHAPES):
        yield ExpectedSolid(shape=shape, colour=colour, size=size, place=place)


def _row(name: str, accuracy: Accuracy) -> str:
    parts = [*accuracy.attributes.values(), accuracy.count, accuracy.floor, accuracy.overall]
    return _line([name, str(accuracy.pictures), *("-" if part is None else f"{100 * part:.1f}" for part in parts)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
