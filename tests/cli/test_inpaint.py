"""`sd2rt inpaint` on the embedded text-to-image model, which blends: what the mask keeps and what it gives up."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import MODEL, Command
from tests.cli.pictures import SIZE, box_mask

QUICK = ("--model", MODEL, "--steps", "4", "--seed", "7", "--quiet")
WHITE = np.asarray(box_mask(SIZE)) > 0


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(np.float32)


def changes(name: str) -> np.ndarray:
    """Return by how much each pixel of a picture differs from rgb.png, [H, W]."""
    difference: np.ndarray = np.abs(pixels(name) - pixels("rgb.png")).max(axis=2)
    return difference


@pytest.mark.parametrize("invert", [False, True])
def test_paste_keeps_the_rest_exactly(invert: bool, sd2rt: Command, pictures: list[str]) -> None:
    """The mask is of another size than the picture."""
    options = ("--mask", "mask.png", "--paste", *(("--invert",) if invert else ()))
    assert sd2rt("inpaint", "a red cube", "--image", "rgb.png", *options, "--out", "a.png", *QUICK).out == "a.png\n"
    painted = ~WHITE if invert else WHITE
    assert changes("a.png")[~painted].max() == 0
    assert changes("a.png")[painted].mean() > 5


def test_without_paste_the_rest_comes_through_the_autoencoder(sd2rt: Command, pictures: list[str]) -> None:
    assert sd2rt("inpaint", "", "--image", "rgb.png", "--mask", "mask.png", "--out", "a.png", *QUICK).code == 0
    assert changes("a.png")[~WHITE].max() > 0
    assert changes("a.png")[~WHITE].mean() < changes("a.png")[WHITE].mean()


@pytest.mark.parametrize(("paste", "kept"), [((), True), (("--paste",), True), (("--no-paste",), False)])
def test_expand_paints_around_the_picture(paste: tuple[str, ...], kept: bool, sd2rt: Command, pictures: list[str]) -> None:
    asked = ("inpaint", "a red cube", "--image", "rgb.png", "--expand", "16,0,8,24", *paste, "--out", "a.png")
    assert sd2rt(*asked, *QUICK).code == 0
    wide = pixels("a.png")
    assert wide.shape == (48 + 24, 64 + 24, 3)
    middle = wide[:24, 16 + 16 : 16 + 64 - 16]  # what the mask's overlap leaves of the picture
    assert (np.abs(middle - pixels("rgb.png")[:24, 16:-16]).max() == 0) == kept


def test_parameters(sd2rt: Command, pictures: list[str]) -> None:
    options = ("--mask", "mask.png", "--mask-blur", "2.5", "--invert", "--expand", "0,0,16,0", "--strength", "0.75", "--out", "a.png")
    assert sd2rt("inpaint", "a red cube", "--image", "rgb.png", *options, *QUICK).code == 0
    with Image.open("a.png") as image:
        assert "Denoising strength: 0.75, Mask blur: 2.5, Seed: 7, Size: 80x48" in image.info["parameters"]
        ours = json.loads(image.info["sd2rt"])
    assert (ours["task"], ours["mask_blur"], ours["invert"], ours["paste"], ours["expand"]) == (
        "inpainting",
        2.5,
        True,
        True,
        [0, 0, 16, 0],
    )
    assert ours["mask_sha256"] == hashlib.sha256(Path("mask.png").read_bytes()).hexdigest()
