"""Files of every format from the command line, and what becomes of pictures whose place is gone when they are done."""

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.cli import save
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.metadata import read_metadata
from tests.cli.conftest import Command, after_painting, assert_refused, fill_disk


@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        (("--out", "a.jpg"), "a.jpg", "JPEG"),
        (("--out", "a.JPEG"), "a.JPEG", "JPEG"),
        (("--out", "a.webp", "--quality", "50"), "a.webp", "WEBP"),
        (("--out", "new/", "--format", "jpeg"), "new/sd2rt-7.jpg", "JPEG"),
        (("--format", "webp"), "sd2rt-7.webp", "WEBP"),
        (("--out", "a.png", "--format", "png"), "a.png", "PNG"),
    ],
)
def test_formats(paint: Command, options: tuple[str, ...], name: str, kind: str) -> None:
    found = paint("a red cube", *options)
    assert (found.code, found.out) == (0, f"{name}\n")
    with Image.open(name) as image:
        assert (image.format, image.mode, image.size) == (kind, "RGB", (64, 64))
    record = read_metadata(name).record
    assert record is not None
    assert (record.prompt, record.seed) == ("a red cube", 7)
    assert record.quality == {"PNG": None, "JPEG": 90, "WEBP": 50 if "50" in options else 90}[kind]


def test_quality_counts(paint: Command) -> None:
    for quality in ("30", "95"):
        assert paint("a red cube", "--out", f"{quality}.jpg", "--quality", quality).code == 0
    assert Path("30.jpg").stat().st_size < Path("95.jpg").stat().st_size


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_without_metadata(paint: Command, suffix: str) -> None:
    assert paint("a red cube", "--out", f"a{suffix}", "--no-metadata").code == 0
    with Image.open(f"a{suffix}") as image:
        assert {"parameters", "sd2rt", "exif", "xmp"} & set(image.info) == set()
    assert b"red cube" not in Path(f"a{suffix}").read_bytes()
    with pytest.raises(InvalidArgument, match="no parameters"):
        read_metadata(f"a{suffix}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "a.gif"), "--out: got a.gif; expected a name that ends in one of .png, .jpg, .jpeg, .webp, or a folder"),
        (("--out", "a.png", "--format", "jpeg"), "--out: got a.png with --format jpeg; expected a name that ends in one of .jpg, .jpeg"),
        (("--format", "tiff"), "--format: got 'tiff'; expected one of png, jpeg, webp"),
        (("--quality", "80"), "--quality: got 80 for PNG, which loses nothing; leave it out, or choose --format jpeg or webp"),
        (("--out", "a.jpg", "--quality", "0"), "--quality: got 0; expected an integer from 1 to 100"),
        (("--out", "a.webp", "--quality", "101"), "--quality: got 101"),
        (("--rng", "cuda"), "rng: got 'cuda'; expected one of torch, nv"),
        (("--variation-seed", "3"), "variation_seed: got one with a variation_strength of 0"),
        (("--variation-strength", "2"), "variation_strength: got '2.0'; expected a finite number from 0 to 1"),
    ],
)
def test_refused_before_any_work(paint: Command, unused_cache: Path, options: tuple[str, ...], words: str) -> None:
    assert_refused(paint("a red cube", *options), 2, words)
    assert not unused_cache.exists()


def test_prompts_too_long_for_a_jpeg_are_refused_before_any_work(paint: Command, unused_cache: Path) -> None:
    options = ("--negative", "🟥" * 8192, "--out", "a.jpg")
    assert_refused(paint("🟥" * 8192, *options), 2, "too long for a JPEG's metadata")
    assert not unused_cache.exists()
    assert list(Path().iterdir()) == []


def test_a_folder_that_vanished_while_painting_is_made_again(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("new").mkdir()
    after_painting(monkeypatch, lambda: shutil.rmtree("new"))
    found = paint("a red cube", "--out", "new/a.png")
    assert (found.code, found.out) == (0, "new/a.png\n")
    assert Path("new/a.png").is_file()


def test_a_folder_that_became_a_file_loses_no_picture(paint: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    def replace_folder() -> None:
        Path("new").rmdir()
        Path("new").write_text("mine")

    Path("new").mkdir()
    after_painting(monkeypatch, replace_folder)
    found = paint("a red cube", "-n", "2", "--out", "new/a.jpg")
    here = [str(Path.cwd() / name) for name in ("a-1.png", "a-2.png")]
    assert (found.code, found.out.splitlines()) == (1, here)
    assert found.err.count("painted and kept:") == 2
    assert found.err.splitlines()[-1].startswith("sd2rt: ")
    assert Path("new").read_text() == "mine"
    assert {read_metadata(path).record.seed for path in here} == {7, 8}  # type: ignore[union-attr]


def test_a_name_taken_while_painting_keeps_its_file(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    after_painting(monkeypatch, lambda: Path("a.png").write_text("mine"))
    found = paint("a red cube", "--out", "a.png", "--no-metadata")
    assert (found.code, found.out) == (1, "a-2.png\n")
    assert "it exists" in found.err
    assert Path("a.png").read_text() == "mine"
    with Image.open("a-2.png") as image:
        assert "parameters" not in image.info


@pytest.mark.parametrize("place", ["home", "temporary"])
def test_a_full_disk_loses_no_picture(paint: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path, place: str) -> None:
    write = save.save_picture

    def write_there_alone(image: Image.Image, path: Path, *arguments: Any, **options: Any) -> None:
        if path.parent != homeless / place:
            raise OSError(28, "No space left on device")
        write(image, path, *arguments, **options)

    monkeypatch.setattr(save, "save_picture", write_there_alone)
    found = paint("a red cube", "--out", "a.png")
    assert (found.code, found.out) == (1, f"{homeless / place / 'a.png'}\n")
    assert found.err.endswith(f"sd2rt: [Errno 28] No space left on device; painted and kept: {homeless / place / 'a.png'}\n")
    assert (homeless / place / "a.png").is_file()


def test_without_a_current_folder_no_picture_is_lost(paint: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    Path("gone").mkdir()
    monkeypatch.chdir("gone")
    after_painting(monkeypatch, lambda: shutil.rmtree("../gone"))
    found = paint("a red cube", "--out", "a.png")
    assert (found.code, found.out) == (1, f"{homeless / 'home' / 'a.png'}\n")
    assert (homeless / "home/a.png").is_file()


def test_without_a_home_no_picture_is_lost(paint: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    def unknown(number: int) -> None:
        raise KeyError("a user that the system does not know")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    fill_disk(monkeypatch, room=homeless / "temporary")
    found = paint("a red cube", "--out", "a.png")
    assert (found.code, found.out) == (1, f"{homeless / 'temporary' / 'a.png'}\n")
    assert (homeless / "temporary/a.png").is_file()


def test_without_a_temporary_folder_no_picture_is_lost(paint: Command, monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    """As on a full disk, where tempfile tries to write before it names one."""
    create = os.open

    def create_at_home_alone(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).absolute().parent != homeless / "home":
            raise OSError(28, "No space left on device")
        return create(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        after_painting(patch, lambda: patch.setattr(os, "open", create_at_home_alone))
        found = paint("a red cube", "--out", "a.png")
        with pytest.raises(FileNotFoundError):
            tempfile.gettempdir()
    assert (found.code, found.out) == (1, f"{homeless / 'home' / 'a.png'}\n")
    assert (homeless / "home/a.png").is_file()


def test_a_picture_that_no_folder_takes_is_said_to_be_lost(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save, "save_picture", refuse)
    found = paint("a red cube", "--out", "a.png")
    assert (found.code, found.out) == (1, "")
    assert "the picture is lost, since the current, the home and the temporary folder do not take it either" in found.err


def test_variations_have_names_of_their_own(paint: Command) -> None:
    """They share a seed, after which files are named."""
    options = ("--variation-seed", "3", "--variation-strength", "0.5", "-n", "2", "--rng", "nv")
    found = paint("a red cube", *options)
    assert (found.code, found.out) == (0, "sd2rt-7.png\nsd2rt-7-2.png\n")
    records = [read_metadata(name).record for name in found.out.split()]
    assert [(record.seed, record.variation_seed, record.variation_strength, record.rng) for record in records if record] == [
        (7, 3, 0.5, "nv"),
        (7, 4, 0.5, "nv"),
    ]
    pixels = {Image.open(name).tobytes() for name in found.out.split()}
    assert len(pixels) == 2


def test_a_random_variation_seed_is_recorded(paint: Command) -> None:
    for name in ("a.png", "b.png"):
        assert paint("a red cube", "--variation-strength", "0.5", "--out", name).code == 0
    records = [read_metadata(name).record for name in ("a.png", "b.png")]
    assert len({record.variation_seed for record in records if record}) == 2


def test_whose_noise_it_is_changes_the_picture(paint: Command) -> None:
    for rng in ("torch", "nv"):
        assert paint("a red cube", "--rng", rng, "--out", f"{rng}.png").code == 0
    assert Image.open("torch.png").tobytes() != Image.open("nv.png").tobytes()
