"""`--preview`: what is written and drawn while a picture is painted, and what stays of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.cli import preview
from sd2rt.cli.preview import fit, measure_terminal, tile_pictures
from sd2rt.engine.errors import EngineError
from sd2rt.runtime import text_to_image
from tests.cli.conftest import Command, assert_refused
from tests.cli.pictures import colours

Seen = list[tuple[str, tuple[int, int], bytes]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The name, size and pixels of every preview that was written, as it lies there."""
    seen: Seen = []
    replace = preview.replace_picture

    def look(image: Image.Image, path: Path) -> None:
        replace(image, path)
        with Image.open(path) as there:
            seen.append((str(path), there.size, there.tobytes()))

    monkeypatch.setattr(preview, "replace_picture", look)
    return seen


@pytest.mark.parametrize("kind", ["latent", "tiny", "vae"])
def test_one_file_beside_the_result_is_replaced_and_then_gone(kind: str, paint: Command, written: Seen, tmp_path: Path) -> None:
    found = paint("a red cube", "--steps", "7", "--preview", kind, "--preview-every", "2", "--out", "new/a.png")
    assert (found.code, found.out) == (0, "new/a.png\n")
    assert "what it is going to be: new/a-preview.png\n" in found.err
    assert [(name, size) for name, size, _ in written] == [("new/a-preview.png", (64, 64))] * 3  # after steps 2, 4 and 6
    assert len({pixels for _, _, pixels in written}) == 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_previews_do_not_change_the_picture(paint: Command) -> None:
    for kind in ("none", "latent", "tiny"):
        assert paint("a red cube", "--preview", kind, "--out", f"{kind}.png").code == 0
    assert Path("none.png").read_bytes() == Path("latent.png").read_bytes() == Path("tiny.png").read_bytes()


def test_a_folder_keeps_all_of_them(paint: Command, written: Seen) -> None:
    found = paint("a red cube", "-n", "3", "--steps", "4", "--preview", "latent", "--preview-dir", "steps", "--out", "a.png", "--quiet")
    assert (found.code, found.err) == (0, "")
    assert sorted(path.name for path in Path("steps").iterdir()) == [f"a-1-step-{step:03}.png" for step in (1, 2, 3)]
    assert [size for _, size, _ in written] == [(128, 128)] * 3  # three pictures, two by two


def test_a_preview_replaces_no_file_of_anybody_else(paint: Command, written: Seen) -> None:
    Path("a-preview.png").write_bytes(b"mine")
    assert paint("a red cube", "--preview", "latent", "--out", "a.png").code == 0
    assert [name for name, _, _ in written] == ["a-preview-2.png"]
    assert sorted(path.name for path in Path().iterdir()) == ["a-preview.png", "a.png"]
    assert Path("a-preview.png").read_bytes() == b"mine"


def test_a_preview_that_cannot_be_written_is_left_out(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    assert paint("a red cube", "--preview", "latent", "--preview-dir", "steps", "--out", "a.png").code == 0
    assert list(Path("steps").iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "more", "size"),
    [
        ("img2img", ["--image", "rgb.png", "--strength", "1"], (64, 48)),
        ("inpaint", ["--image", "rgb.png", "--mask", "mask.png", "--paste"], (64, 48)),
        ("inpaint", ["--model", "toyworld", "--image", "rgb.png", "--mask", "mask.png", "--low-memory"], (64, 48)),
        ("depth2img", ["--depth", "gray.png"], (64, 48)),
        ("upscale", ["--image", "rgb.png"], (256, 192)),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_every_task_has_them(verb: str, more: list[str], size: tuple[int, int], sd2rt: Command, written: Seen) -> None:
    found = sd2rt(verb, "a red cube", *more, "--steps", "3", "--seed", "7", "--preview", "latent", "--out", "out.png")
    assert found.code == 0, found.err
    assert [seen[:2] for seen in written] == [("out-preview.png", size)] * 2
    if "--paste" in more:
        with Image.open("rgb.png") as kept:
            before = np.frombuffer(written[0][2], np.uint8).reshape(48, 64, 3)
            np.testing.assert_array_equal(before[:, :16], np.asarray(kept)[:, :16])


def test_a_second_pass_is_seen_too_without_a_decoder_of_its_own(paint: Command, written: Seen) -> None:
    assert paint("a red cube", "--preview", "tiny", "--upscale", "--out", "a.png").code == 0
    assert [size for _, size, _ in written] == [(64, 64), (256, 256)]  # of two steps each
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_what_fails_leaves_no_preview(paint: Command, written: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise EngineError("the GPU is gone")

    monkeypatch.setattr(text_to_image.TextToImage, "_result", fail)
    found = paint("a red cube", "--preview", "latent", "--out", "a.png")
    assert (found.code, len(written)) == (1, 1)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("graphics", "words"),
    [("kitty", "\033_Ga=T,f=100,"), ("iterm", "\033]1337;File=inline=1;"), ("sixel", '\033P0;1;0q"1;1;64;64#')],
)
def test_a_terminal_is_drawn_on_below_the_line_of_progress(
    graphics: str, words: str, paint: Command, written: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sd2rt.cli.console.on_terminal", lambda: True)
    found = paint("a red cube", "--steps", "4", "--preview", "latent", "--preview-show", graphics, "--out", "a.png")
    assert (found.code, written) == (0, [])
    assert found.err.count("\n" * 17 + "\033[17A") == 1
    assert found.err.count("\0337\r\n" + words) == 3
    assert found.err.count("\0338") == 3
    assert "\033[16B\n" in found.err.rsplit("\0338", 1)[1]
    quiet = paint("a red cube", "--steps", "4", "--preview", "latent", "--preview-show", graphics, "--out", "b.png", "--quiet")
    assert (quiet.code, quiet.err, len(written)) == (0, "", 3)


def test_auto_takes_what_the_terminal_says(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.delenv("TMUX", raising=False)
    assert "\033_G" not in paint("a red cube", "--preview", "latent", "--out", "a.png").err  # no terminal
    monkeypatch.setattr("sd2rt.cli.console.on_terminal", lambda: True)
    assert "\033_G" in paint("a red cube", "--preview", "latent", "--out", "b.png").err
    assert "\033_G" not in paint("a red cube", "--preview", "latent", "--preview-show", "off", "--out", "c.png").err


@pytest.mark.usefixtures("unused_cache", "pictures")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "--preview", "rgb"], "--preview: got 'rgb'; expected one of none, latent, tiny, vae"),
        (["generate", "--preview", "latent", "--preview-every", "0"], "--preview-every: got 0; expected a number of steps, 1 or more"),
        (
            ["generate", "--preview", "latent", "--preview-show", "braille"],
            "--preview-show: got 'braille'; expected one of auto, kitty, it",
        ),
        (["generate", "--preview", "latent", "--preview-show", "kitty"], "--preview-show: got kitty, but stderr is no terminal"),
        (["generate", "--preview", "latent", "--preview-dir", "text.png"], "--preview-dir: got text.png: File exists; choose another"),
        (["upscale", "--preview", "tiny", "--image", "rgb.png"], "toyworld-upscaler has no tiny_vae_decoder"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, sd2rt: Command, unused_cache: Path) -> None:
    assert_refused(sd2rt(arguments[0], "a red cube", *arguments[1:], "--out", "a.png"), 2, words)
    assert not Path("a.png").exists()
    assert not unused_cache.exists()


@pytest.mark.parametrize(("count", "size"), [(1, (64, 48)), (2, (128, 48)), (3, (128, 96)), (5, (192, 96)), (400, (1024, 768))])
def test_pictures_side_by_side(count: int, size: tuple[int, int]) -> None:
    assert tile_pictures([colours()] * count).size == size


def test_tiles_are_in_order() -> None:
    sheet = np.asarray(tile_pictures([Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (10, 20, 30)]))
    np.testing.assert_array_equal(sheet[::2, ::2, 0], [[10, 20], [30, 0]])


@pytest.mark.parametrize(("size", "expected"), [((64, 48), (64, 48)), ((640, 480), (320, 240)), ((3, 4000), (1, 320))])
def test_fit_only_scales_down(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit(Image.new("RGB", size), 320).size == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [((40, 100, 1000, 800), (40, 20)), ((0, 0, 0, 0), (19, 20)), ((50, 80, 0, 0), (50, 20)), (None, (19, 20))]
)
def test_a_terminal_may_say_how_high_its_lines_are(
    answer: tuple[int, int, int, int] | None, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import struct

    def ask(number: int, request: int, buffer: bytes) -> bytes:
        if answer is None:
            raise OSError(25, "Inappropriate ioctl for device")
        return struct.pack("4H", *answer)

    monkeypatch.setattr(fcntl, "ioctl", ask)
    monkeypatch.setattr("sys.stderr.fileno", lambda: 2, raising=False)
    assert measure_terminal() == expected
