"""`sd2rt upscale`, and `generate --upscale`, with a small upscaler."""

import json

import pytest
from PIL import Image

from tests.cli.conftest import MODEL, Command

pytest.importorskip("torch", reason="the small model is exported with torch")

from tests.tiny import tiny_bundle

pytestmark = pytest.mark.torch


@pytest.fixture
def upscaler() -> str:
    return str(tiny_bundle("upscale"))


@pytest.mark.parametrize(("name", "size"), [("small.png", (64, 48)), ("1x1.png", (4, 4)), ("rotated.jpg", (192, 256))])
def test_a_picture_gets_four_times_as_large(name: str, size: tuple[int, int], upscaler: str, sd2rt: Command, pictures: list[str]) -> None:
    with Image.open("rgba.png") as image:
        image.resize((16, 12)).save("small.png")
    found = sd2rt("upscale", "--image", name, "--model", upscaler, "--steps", "2", "--seed", "7", "--noise-level", "40", "--out", "a.png")
    assert found.out == "a.png\n"
    with Image.open("a.png") as image:
        assert image.size == size
        assert f"Noise level: 40, Seed: 7, Size: {size[0]}x{size[1]}" in image.info["parameters"]
        ours = json.loads(image.info["sd2rt"])
    assert (ours["prompt"], ours["task"], ours["noise_level"], ours["strength"]) == ("", "upscaling", 40, None)


def test_generate_upscales_as_upscale_does(upscaler: str, sd2rt: Command) -> None:
    asked = ("generate", "a red cube", "--model", MODEL, "--steps", "2", "--seed", "7", "--width", "16", "--height", "24", "-n", "2")
    assert sd2rt(*asked, "--out", "small.png", "--quiet").code == 0
    found = sd2rt(*asked, "--upscaler", upscaler, "--out", "large.png", "--json")
    assert found.code == 0
    assert "upscaling 2 to 64 x 96, 30 steps of ddim" in found.err
    result = json.loads(found.out)
    assert [len(timings["steps"]) for timings in result["upscaling"]] == [30, 30]
    for index, seed in ((1, 7), (2, 8)):
        alone = ("upscale", "a red cube", "--image", f"small-{index}.png", "--model", upscaler, "--seed", str(seed))
        assert sd2rt(*alone, "--out", f"alone-{index}.png").code == 0
        with Image.open(f"large-{index}.png") as large, Image.open(f"alone-{index}.png") as expected:
            assert large.size == (64, 96)
            assert large.tobytes() == expected.tobytes()
            assert f"Seed: {seed}, Size: 16x24" in large.info["parameters"]
            assert "Hires upscale: 4, Hires steps: 30, Hires upscaler: tiny-upscale" in large.info["parameters"]
            ours = json.loads(large.info["sd2rt"])
        assert (ours["model"], ours["width"], ours["steps"]) == ("toyworld", 16, 2)
        assert (ours["upscaler"]["model"], ours["upscaler"]["width"], ours["upscaler"]["seed"]) == ("tiny-upscale", 64, seed)
