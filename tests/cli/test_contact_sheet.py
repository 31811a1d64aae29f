"""Contact sheets: where pictures and words are, and how large a sheet may be."""

import numpy as np
import pytest
from PIL import Image

from sd2rt.cli.contact_sheet import EMPTY, MARGIN, Labels, Sheet
from sd2rt.engine.errors import InvalidArgument

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200), (200, 0, 200)]
NONE: tuple[str, ...] = ()


def boxes(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has a colour."""
    found = (np.asarray(sheet) == colour).all(axis=2)
    (rows,), (columns,) = np.nonzero(found.any(axis=1)), np.nonzero(found.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def ink(sheet: Image.Image, left: int, top: int, right: int, bottom: int) -> bool:
    """Whether anything dark is written in a box."""
    return bool((np.asarray(sheet.crop((left, top, right, bottom)).convert("L")) < 128).any())


def test_pictures_are_in_their_columns_rows_and_blocks_with_words_beside_them() -> None:
    labels = Labels(title="a title", columns=("one", "two", "three"), rows=("first",), blocks=("upper", "lower"))
    cells = {(x, 0, z): Image.new("RGB", (80, 60), COLOURS[3 * z + x]) for x in range(3) for z in range(2)}
    drawing = Sheet(labels, (3, 1, 2), (80, 60))
    sheet = drawing.draw(cells)
    assert sheet.size == drawing.size
    found = {place: boxes(sheet, COLOURS[3 * place[2] + place[0]]) for place in cells}
    assert {(right - left, bottom - top) for left, top, right, bottom in found.values()} == {(80, 60)}
    assert [found[x, 0, 0][0] - found[0, 0, 0][0] for x in range(3)] == [0, 80 + MARGIN, 2 * (80 + MARGIN)]
    assert found[0, 0, 1][1] > found[0, 0, 0][3]
    for left, top, right, bottom in found.values():
        assert ink(sheet, left, top - 24, right, top)  # the column's label, again in each block
        assert ink(sheet, 0, top, found[0, 0, 0][0], bottom)  # the row's
    assert ink(sheet, 0, 0, 200, 24)  # the title


def test_a_cell_that_is_missing_is_gray_and_a_small_one_keeps_its_size() -> None:
    labels = Labels(title="", columns=("a", "b"), rows=NONE, blocks=NONE)
    sheet = Sheet(labels, (2, 1, 1), (64, 48)).draw({(0, 0, 0): Image.new("RGB", (32, 24), COLOURS[0])})
    assert np.subtract(boxes(sheet, COLOURS[0])[2:], boxes(sheet, COLOURS[0])[:2]).tolist() == [32, 24]
    gray = boxes(sheet, (0xCC,) * 3)
    assert EMPTY == "#cccccc"
    assert (gray[2] - gray[0], gray[3] - gray[1]) == (64, 48)


@pytest.mark.parametrize("cell", [(64, 64), (256, 256), (1024, 512)])
def test_long_labels_are_wrapped_into_their_room(cell: tuple[int, int]) -> None:
    words = "a very long description of what is to be seen in all of this " * 3
    for label in (words, "x" * 400):
        labels = Labels(title=label, columns=(label, "b"), rows=(label,), blocks=NONE)
        drawing = Sheet(labels, (2, 1, 1), cell)
        sheet = drawing.draw({(x, 0, 0): Image.new("RGB", cell, (255, 255, 0)) for x in range(2)})
        left, top, right, bottom = boxes(sheet, (255, 255, 0))
        assert sheet.width < 3.2 * cell[0] + 300
        assert not ink(sheet, left, top, right, bottom)
        assert not ink(sheet, sheet.width - 2, 0, sheet.width, sheet.height)
        lines = drawing._wrap(label, cell[0])
        assert len(lines) <= 6
        assert all(drawing._width(line) <= cell[0] + drawing._width("…") for line in lines)


def test_labels_that_fit_are_whole() -> None:
    drawing = Sheet(Labels(title="", columns=NONE, rows=NONE, blocks=NONE), (1, 1, 1), (512, 512))
    assert drawing._wrap("a b", 500) == ["a b"]
    assert drawing._wrap("", 500) == []
    assert "".join(drawing._wrap("x" * 40, 300)) == "x" * 40
    assert " ".join(drawing._wrap("one two three four five six seven", 100)) == "one two three four five six seven"


def test_a_sheet_has_a_largest_size() -> None:
    labels = Labels(title="", columns=NONE, rows=NONE, blocks=NONE)
    Sheet(labels, (9, 9, 1), (1024, 1024))
    with pytest.raises(InvalidArgument, match=r"a sheet of 10,3\d\d x 10,3\d\d pixels; expected at most 100,000,000 in all: fewer"):
        Sheet(labels, (10, 10, 1), (1024, 1024))
