"""The text in a PNG, and writing it whole or not at all."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.metadata import WEB_UI_SOLVERS, Parameters, check_destination, json_text, save_png, version, web_ui_text
from sd2rt.runtime.samplers import SOLVERS, parse_sampler

PARAMETERS = Parameters(
    prompt="a large red sphere",
    negative_prompt="blurry, dark",
    steps=20,
    sampler="dpm++ 2m",
    sigmas="karras",
    guidance_scale=7.5,
    guidance_rescale=0.0,
    seed=7,
    width=64,
    height=48,
    model="toyworld",
    bundle_sha256="0123456789abcdef" * 4,
    target="cpu",
)
PICTURE = Image.new("RGB", (64, 48), (250, 10, 10))


def test_web_ui_text() -> None:
    assert web_ui_text(PARAMETERS) == (
        "a large red sphere\n"
        "Negative prompt: blurry, dark\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, Size: 64x48, "
        f"Model hash: 0123456789, Model: toyworld, Version: sd2rt {version()}"
    )


def test_web_ui_text_leaves_out_what_is_not_used_and_quotes_what_has_commas() -> None:
    bare = replace(PARAMETERS, negative_prompt="", sigmas="", sampler="euler a", guidance_scale=1.0, model='my "best", so far')
    lines = web_ui_text(bare).split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("Steps: 20, Sampler: Euler a, CFG scale: 1, Seed: 7,")
    assert 'Model: "my \\"best\\", so far", Version' in lines[1]
    assert "CFG rescale: 0.7" in web_ui_text(replace(PARAMETERS, guidance_rescale=0.7))
    assert "Precision: f32, Seed: 7" in web_ui_text(replace(PARAMETERS, precision="f32"))
    short = replace(PARAMETERS, guidance_interval=(0.25, 0.8), guidance_reuse=3, deep_cache=2)
    assert "CFG scale: 7.5, Guidance interval: 0.25 to 0.8, Guidance reuse: 3, Deep cache: 2, Seed: 7" in web_ui_text(short)


def test_web_ui_text_of_pictures_that_began_from_one() -> None:
    painted = replace(PARAMETERS, task="inpainting", strength=0.75, mask_blur=4.0)
    assert "CFG scale: 7.5, Denoising strength: 0.75, Mask blur: 4, Seed: 7" in web_ui_text(painted)
    upscaled = replace(PARAMETERS, task="upscaling", noise_level=0, width=256, height=192, steps=30, model="x4")
    assert "CFG scale: 7.5, Noise level: 0, Seed: 7, Size: 256x192" in web_ui_text(upscaled)
    both = web_ui_text(replace(PARAMETERS, upscaler=upscaled))
    assert "Size: 64x48, Model hash: 0123456789, Model: toyworld, Hires upscale: 4, Hires steps: 30, Hires upscaler: x4, Version" in both
    assert json.loads(json_text(replace(PARAMETERS, upscaler=upscaled)))["upscaler"]["width"] == 256


def test_every_solver_has_a_web_ui_name_that_our_own_parser_reads() -> None:
    assert tuple(WEB_UI_SOLVERS) == SOLVERS
    for solver, name in WEB_UI_SOLVERS.items():
        assert parse_sampler(name).solver == solver


def test_json_text_holds_everything() -> None:
    document = json.loads(json_text(replace(PARAMETERS, prompt="ein Würfel 🟥")))
    assert document["prompt"] == "ein Würfel 🟥"
    assert (document["sampler"], document["sigmas"], document["seed"], document["given_latents"]) == ("dpm++ 2m", "karras", 7, False)
    assert document["version"] == version()


@pytest.mark.parametrize("prompt", ["a large red sphere", "ein Würfel 🟥, line\nbreak", "", "x" * 8192])
def test_a_png_carries_both_texts(tmp_path: Path, prompt: str) -> None:
    parameters = replace(PARAMETERS, prompt=prompt)
    save_png(PICTURE, tmp_path / "out.png", parameters)
    with Image.open(tmp_path / "out.png") as image:
        assert isinstance(image, Image.Image)
        assert image.tobytes() == PICTURE.tobytes()
        assert image.info["parameters"] == web_ui_text(parameters)
        assert json.loads(image.info["sd2rt"])["prompt"] == prompt
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_a_png_without_text(tmp_path: Path) -> None:
    save_png(Image.new("I;16", (4, 4), 40_000), tmp_path / "depth.png", None)
    with Image.open(tmp_path / "depth.png") as image:
        assert (image.mode, image.getpixel((0, 0)), image.info) == ("I;16", 40_000, {})


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_png(PICTURE, tmp_path / name, PARAMETERS)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_existing_file_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match=r"it exists; name another one, or overwrite it with --force"):
        save_png(PICTURE, path, PARAMETERS)
    assert path.read_bytes() == b"mine"
    save_png(PICTURE, path, PARAMETERS, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.jpg", r"expected a name that ends in \.png"),
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


@pytest.mark.parametrize("write", [lambda path: check_destination(path), lambda path: save_png(PICTURE, path, PARAMETERS)])
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
        save_png(PICTURE, path, PARAMETERS)
    assert path.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be written"):
        save_png(Image.new("CMYK", (4, 4)), tmp_path / "out.png", PARAMETERS)
    assert list(tmp_path.iterdir()) == []
