"""Writing a picture whole or not at all, and refusing early what cannot be written."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import web_ui_text
from sd2rt.runtime.picture_file import check_destination, save_picture
from tests.runtime.records import PARAMETERS

PICTURE = Image.new("RGB", (64, 48), (250, 10, 10))


@pytest.mark.parametrize("prompt", ["a large red sphere", "ein Würfel 🟥, line\nbreak", "", "x" * 8192])
def test_a_png_carries_both_texts(tmp_path: Path, prompt: str) -> None:
    parameters = replace(PARAMETERS, prompt=prompt)
    save_picture(PICTURE, tmp_path / "out.png", parameters)
    with Image.open(tmp_path / "out.png") as image:
        assert isinstance(image, Image.Image)
        assert image.tobytes() == PICTURE.tobytes()
        assert image.info["parameters"] == web_ui_text(parameters)
        assert json.loads(image.info["sd2rt"])["prompt"] == prompt
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_a_png_without_text(tmp_path: Path) -> None:
    save_picture(Image.new("I;16", (4, 4), 40_000), tmp_path / "depth.png", None)
    with Image.open(tmp_path / "depth.png") as image:
        assert (image.mode, image.getpixel((0, 0)), image.info) == ("I;16", 40_000, {})


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_picture(PICTURE, tmp_path / name, PARAMETERS)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_existing_file_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match=r"it exists; name another one, or overwrite it with --force"):
        save_picture(PICTURE, path, PARAMETERS)
    assert path.read_bytes() == b"mine"
    save_picture(PICTURE, path, PARAMETERS, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.gif", r"expected a name that ends in \.png or \.jpg or \.jpeg or \.webp"),
        ("out", r"expected a name that ends in \.png"),
        ("absent/out.png", "there is no folder .*absent; make it first"),
        ("file/out.png", "there is no folder"),
        ("folder.png", "it is a folder"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_a_destination_that_cannot_work_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidArgument, match=message):
        check_destination(tmp_path / name, force=True)


@pytest.mark.parametrize("write", [lambda path: check_destination(path), lambda path: save_picture(PICTURE, path, PARAMETERS)])
def test_a_folder_that_takes_no_files_is_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    """/proc refuses everybody, root too; elsewhere a read-only folder refuses all but root."""
    folder = Path("/proc")
    if os.getuid() != 0:
        folder = tmp_path
        folder.chmod(0o555)
    elif not folder.is_dir():
        pytest.skip("running as root without /proc: every folder takes files")
    with pytest.raises(InvalidArgument, match=r"no file can be written in .*name another folder"):
        write(folder / "out.png")


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, save = tmp_path / "out.png", Image.Image.save

    def save_while_another_does(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        path.write_bytes(b"another's")

    monkeypatch.setattr(Image.Image, "save", save_while_another_does)
    with pytest.raises(InvalidArgument, match="File exists"):
        save_picture(PICTURE, path, PARAMETERS)
    assert path.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be written"):
        save_picture(Image.new("CMYK", (4, 4)), tmp_path / "out.png", PARAMETERS)
    assert list(tmp_path.iterdir()) == []
