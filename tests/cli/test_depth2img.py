"""`sd2rt depth2img` on a small model with a depth estimator: depth estimated, given and saved."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sd2rt.runtime import depth
from tests.cli.conftest import Command, Outcome, after_painting
from tests.cli.pictures import SIZE

pytest.importorskip("torch", reason="the small model is exported with torch")

from tests.tiny import tiny_bundle

pytestmark = pytest.mark.torch


@pytest.fixture
def depth2img(sd2rt: Command, pictures: list[str]) -> Callable[..., Outcome]:
    asked = ("depth2img", "a red cube", "--model", str(tiny_bundle("depth")), "--steps", "4", "--seed", "7", "--target", "cpu")
    return lambda *options: sd2rt(*asked, *options)


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(np.float32)


def test_saving_the_depth_does_not_change_the_picture(depth2img: Callable[..., Outcome]) -> None:
    assert depth2img("--image", "rgb.png", "--out", "a.png").out == "a.png\n"
    found = depth2img("--image", "rgb.png", "--save-depth", "depth.png", "--out", "b.png")
    assert (found.code, found.out) == (0, "b.png\n")
    assert "the depth is in depth.png" in found.err
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    with Image.open("depth.png") as image:
        assert (image.mode, image.size, image.info) == ("I;16", SIZE, {})
        assert image.getextrema() == (0, 65535)


def test_a_saved_depth_paints_nearly_the_same_picture(depth2img: Callable[..., Outcome]) -> None:
    assert depth2img("--image", "rgb.png", "--save-depth", "depth.png", "--out", "a.png").code == 0
    assert depth2img("--image", "rgb.png", "--depth", "depth.png", "--out", "b.png").code == 0
    assert depth2img("--image", "rgb.png", "--depth", "16-bit.png", "--out", "other.png").code == 0
    assert np.abs(pixels("a.png") - pixels("b.png")).mean() < 1.5
    assert np.abs(pixels("a.png") - pixels("other.png")).mean() > 3


def test_a_given_depth_is_saved_with_near_as_white(depth2img: Callable[..., Outcome]) -> None:
    Image.fromarray(np.tile(np.linspace(10, 99, 40).astype(np.uint8), (30, 1))).save("ramp.png")  # nearer to the right
    found = depth2img("--image", "rgb.png", "--depth", "ramp.png", "--save-depth", "depth.png", "--out", "a.png", "--json")
    assert json.loads(found.out)["depth"] == "depth.png"
    saved = pixels("depth.png")
    assert saved[:, 0].max() < 1000
    assert saved[:, -1].min() > 64500
    assert (np.diff(saved, axis=1) >= 0).all()


@pytest.mark.parametrize(("name", "size"), [("gray.png", SIZE), ("16-bit.png", SIZE), ("dot.png", (8, 8))])
def test_depth_without_a_picture(name: str, size: tuple[int, int], depth2img: Callable[..., Outcome]) -> None:
    Image.new("L", (1, 1)).save("dot.png")
    assert depth2img("--depth", name, "--out", "a.png").code == 0
    with Image.open("a.png") as image:
        assert image.size == size
        ours = json.loads(image.info["sd2rt"])
    assert (ours["task"], ours["strength"], ours["image_sha256"]) == ("depth-to-image", None, None)
    assert ours["depth_sha256"] == hashlib.sha256(Path(name).read_bytes()).hexdigest()


def test_the_precision_holds_for_the_estimator_too(depth2img: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def estimate(*arguments: object, precision: str) -> np.ndarray:
        asked.append(precision)
        return np.zeros((1, 8, 8), np.float32)

    options = ("--image", "rgb.png", "--save-depth", "depth.png", "--out", "a.png", "--precision", "f32")
    with monkeypatch.context() as patch:
        patch.setattr(depth, "open_and_estimate", estimate)
        assert depth2img(*options).code == 2  # the cpu target has no choice
    assert asked == ["f32"]
    assert depth2img(*options).err == "sd2rt: precision: got f32; cpu has no choice: leave it out, or use --target openvino\n"


def test_a_depth_that_cannot_be_saved_loses_no_picture(depth2img: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--image", "rgb.png", "--save-depth", "new/depth.png", "--out", "a.png", "--json")
    Path("new").mkdir()
    after_painting(monkeypatch, lambda: shutil.rmtree("new"))
    found = depth2img(*options)
    said = json.loads(found.out)
    assert (found.code, said["images"][0]["path"], said["depth"]) == (1, "a.png", None)
    assert found.err.endswith("sd2rt: the depth is not saved: output file: got new/depth.png: there is no folder new; make it first\n")
    assert Path("a.png").is_file()


def test_force_replaces_both_files(depth2img: Callable[..., Outcome]) -> None:
    for name in ("a.png", "depth.png"):
        Path(name).write_bytes(b"before")
    assert depth2img("--image", "rgb.png", "--save-depth", "depth.png", "--out", "a.png", "--force").code == 0
    assert [Path(name).read_bytes()[:4] for name in ("a.png", "depth.png")] == [b"\x89PNG"] * 2


def test_depth_of_a_picture_with_uneven_sides_is_saved(depth2img: Callable[..., Outcome]) -> None:
    with Image.open("rgb.png") as image:
        image.resize((59, 45)).save("uneven.png")
    found = depth2img("--image", "uneven.png", "--save-depth", "depth.png", "--out", "a.png")
    assert found.code == 0
    assert depth2img("--image", "uneven.png", "--out", "b.png").code == 0
    np.testing.assert_array_equal(pixels("a.png"), pixels("b.png"))
