"""Pictures as escape sequences, read back as the terminals' documents say."""

import base64
import io
import re

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sd2rt.cli.terminal_pictures import KITTY_CHUNK, encode_picture, encode_sixel, find_graphics
from tests.cli.pictures import colours


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm", "TERM_PROGRAM": "mintty"}, "iterm"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "mlterm"}, "sixel"),
        ({"TERM": "contour", "TERM_PROGRAM": "contour"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux,1,0"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
    ],
)
def test_terminals_are_told_by_their_variables(environment: dict[str, str], expected: str | None) -> None:
    assert find_graphics(environment) == expected


def test_kitty_gets_a_png_in_chunks_that_it_need_not_answer() -> None:
    image = Image.effect_noise((96, 64), 90).convert("RGB")
    sequences = re.findall(r"\033_G(.*?);(.*?)\033\\", encode_picture(image, "kitty", 16))
    assert [keys for keys, _ in sequences] == ["a=T,f=100,i=7301,p=1,q=2,C=1,r=16,m=1", *["m=1"] * (len(sequences) - 2), "m=0"]
    assert len(sequences) > 2
    assert all(len(text) == KITTY_CHUNK for _, text in sequences[:-1])
    assert 0 < len(sequences[-1][1]) <= KITTY_CHUNK
    with Image.open(io.BytesIO(base64.b64decode("".join(text for _, text in sequences)))) as read:
        assert np.array_equal(np.asarray(read), np.asarray(image))


def test_a_small_picture_is_one_sequence() -> None:
    assert encode_picture(Image.new("RGB", (2, 2)), "kitty", 3).count("m=0;") == 1


def test_iterm_gets_a_png_with_its_size_and_height() -> None:
    image = colours()
    found = re.fullmatch(r"\033]1337;File=inline=1;size=(\d+);height=16;preserveAspectRatio=1:(.*)\a", encode_picture(image, "iterm", 16))
    assert found is not None
    png = base64.b64decode(found[2])
    assert len(png) == int(found[1])
    with Image.open(io.BytesIO(png)) as read:
        assert np.array_equal(np.asarray(read), np.asarray(image))


def read_sixels(text: str) -> npt.NDArray[np.float64]:
    """Draw sixels: colours in percent, [H, W, 3]; NaN where nothing was drawn."""
    found = re.fullmatch(r'\033P0;1;0q"1;1;(\d+);(\d+)(.*)\033\\', text, re.DOTALL)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    picture = np.full((-(-height // 6) * 6, width, 3), np.nan)
    registers: dict[int, list[int]] = {}
    column, top, colour = 0, 0, -1  # where the next one is drawn
    for number, red, green, blue, chosen, count, repeated, mark in re.findall(
        r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~$-])", found[3]
    ):
        if red:
            registers[int(number)] = [int(red), int(green), int(blue)]
        elif chosen:
            colour = int(chosen)
        elif mark == "$":
            column = 0
        elif mark == "-":
            column, top = 0, top + 6
        else:
            rows = [top + row for row in range(6) if (ord(repeated or mark) - 63) >> row & 1]
            end = column + int(count or 1)
            for row in rows:
                picture[row, column:end] = registers[colour]
            column = end
    assert top + 6 == len(picture)
    return picture[:height]


@pytest.mark.parametrize("size", [(64, 48), (61, 43), (1, 1), (7, 6), (200, 13)])
def test_sixels_draw_the_quantized_picture(size: tuple[int, int]) -> None:
    image = colours(size)
    quantized = np.asarray(image.quantize(256).convert("RGB"), np.float64)
    found = read_sixels(encode_sixel(image))
    assert found.shape == (size[1], size[0], 3)
    np.testing.assert_allclose(found * 2.55, quantized, atol=1.3)  # colours are whole percents


def test_sixels_of_a_plain_picture_are_short() -> None:
    text = encode_picture(Image.new("RGB", (300, 6), (255, 0, 128)), "sixel", 16)
    assert text == '\033P0;1;0q"1;1;300;6#0;2;100;0;50#0!300~\033\\'
