"""`sd2rt img2img` on the embedded model: pictures of every kind to pictures."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import MODEL, Command
from tests.cli.pictures import KINDS, SIZE

QUICK = ("--model", MODEL, "--steps", "4", "--seed", "7")


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(np.float32)


def test_more_strength_is_further_from_the_picture(paint: Command, sd2rt: Command) -> None:
    assert paint("a large green sphere, gray floor", "--steps", "10", "--out", "green.png").code == 0
    distances = []
    for strength in ("0.25", "1"):
        asked = ("img2img", "a large red cube, pink floor", "--image", "green.png", "--strength", strength)
        assert sd2rt(*asked, "--out", "a.png", "--force", *QUICK).code == 0
        distances.append(np.abs(pixels("a.png") - pixels("green.png")).mean())
    assert distances[0] < 0.5 * distances[1], distances


def test_parameters_and_progress(sd2rt: Command, pictures: list[str]) -> None:
    found = sd2rt("img2img", "a red cube", "--image", "rgb.png", "--strength", "0.5", "--out", "a.png", "--json", *QUICK)
    assert found.code == 0
    assert "seed 7, 2 of 4 steps of dpm++ 2m, 64 x 48\n" in found.err
    result = json.loads(found.out)
    assert len(result["timings"]["steps"]) == 2
    with Image.open("a.png") as image:
        assert "Denoising strength: 0.5, Seed: 7" in image.info["parameters"]
        ours = json.loads(image.info["sd2rt"])
    assert (ours["task"], ours["strength"], ours["steps"]) == ("image-to-image", 0.5, 4)
    assert ours["image_sha256"] == hashlib.sha256(Path("rgb.png").read_bytes()).hexdigest()
    assert result["images"][0]["image_sha256"] == ours["image_sha256"]


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, SIZE) for name in KINDS if name[0] not in "1o"), ("1x1.png", (8, 8)), ("odd.webp", (56, 40)), ("rotated.jpg", SIZE[::-1])],
)
def test_every_kind_of_picture_is_painted(name: str, size: tuple[int, int], sd2rt: Command, pictures: list[str]) -> None:
    assert sd2rt("img2img", "a red cube", "--image", name, "--out", "a.png", "--quiet", *QUICK).out == "a.png\n"
    with Image.open("a.png") as image:
        assert (image.size, image.mode) == (size, "RGB")


def test_a_hundred_million_pixels_are_scaled_down(sd2rt: Command) -> None:
    Image.new("1", (10_000, 10_000)).save("large.png")
    found = sd2rt("img2img", "a red cube", "--image", "large.png", "--out", "a.png", *QUICK)
    assert found.code == 0
    assert "got 10,000 x 10,000 pixels, scaled down to 128 x 128; --width or --height asks for another size\n" in found.err
    with Image.open("a.png") as image:
        assert image.size == (128, 128)
        assert "Size: 128x128" in image.info["parameters"]
    Image.new("1", (1_000, 1_000)).save("larger.png")  # scaled down and told, too, where no side is asked for
    found = sd2rt("img2img", "a red cube", "--image", "larger.png", "--width", "64", "--out", "b.png", *QUICK)
    assert (found.code, "scaled down" in found.err) == (0, False)
    with Image.open("b.png") as image:
        assert image.size == (64, 64)


def test_several_pictures_are_those_of_their_seeds(sd2rt: Command, pictures: list[str]) -> None:
    asked = ("img2img", "a red cube", "--image", "rgb.png", "--model", MODEL, "--steps", "4")
    assert sd2rt(*asked, "--seed", "7", "-n", "2", "--out", "both.png").out == "both-1.png\nboth-2.png\n"
    assert sd2rt(*asked, "--seed", "8", "--out", "second.png").code == 0
    assert np.abs(pixels("both-2.png") - pixels("second.png")).max() <= 1
    assert np.abs(pixels("both-1.png") - pixels("second.png")).max() > 1
