"""Make the README's picture strips, one per task, from commands that anyone can run: `python docs/make_strips.py` in the repository root.

Writes what the commands need to docs/inputs, runs them, and lays input, mask or depth, and result side by side in docs/TASK.png.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sd2rt.cli.main import main
from sd2rt.runtime.depth import to_image
from sd2rt.runtime.models import embedded_models
from sd2rt.toyworld.scene import Scene, Solid, render

DOCS = Path("docs")
INPUTS = DOCS / "inputs"
HEIGHT, GAP = 256, 8  # pixels
SCENE = '"a large red sphere on the left and a small blue cube on the right, gray floor"'
OTHER = '"a large green cube on the left and a small yellow sphere on the right, pink floor"'
COMMANDS = {
    "scene": f"sd2rt generate {SCENE} --seed 7 --out docs/inputs/scene.png",
    "img2img": f"sd2rt img2img {OTHER} --image docs/inputs/scene.png --strength 0.3 --seed 3 --out out/img2img.png",
    "img2img stronger": f"sd2rt img2img {OTHER} --image docs/inputs/scene.png --strength 0.6 --seed 3 --out out/stronger.png",
    "inpainting": 'sd2rt inpaint "a large red sphere on the left and a small yellow cone on the right, gray floor" '
    "--image docs/inputs/scene.png --mask docs/inputs/mask.png --seed 7 --out out/inpainting.png",
    "outpainting": 'sd2rt inpaint "a large red sphere on the left and a small green cone on the right, gray floor" '
    "--image docs/inputs/half.png --expand 0,0,32,0 --seed 7 --out out/outpainting.png",
    "depth": 'sd2rt depth2img "a large cyan cylinder on the left and a small orange sphere on the right, pink floor" '
    "--image docs/inputs/render.png --depth docs/inputs/depth.png --seed 7 --out out/depth.png",
    "upscaling": "sd2rt upscale --image docs/inputs/scene.png --seed 7 --out out/upscaling.png",
}
RENDERED = Scene(
    solids=(
        Solid(shape="cylinder", colour="green", size="large", place="left", x=-1.15, z=0.0, radius=1.0),
        Solid(shape="sphere", colour="purple", size="small", place="right", x=1.15, z=0.1, radius=0.62),
    ),
    floor="brown",
)


def run(name: str) -> Path:
    """Run one of the commands and return the picture that it wrote."""
    words = shlex.split(COMMANDS[name])[1:]
    code = main([*words, "--force", "--quiet", "--target", "cpu"])
    if code:
        raise SystemExit(code)
    return Path(words[words.index("--out") + 1])


def write_inputs() -> None:
    """Write a painted scene, its left half, a mask around what is on the right, and a rendered scene with its depth."""
    INPUTS.mkdir(exist_ok=True)
    with Image.open(run("scene")) as scene:
        scene.crop((0, 0, 32, 64)).save(INPUTS / "half.png")
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((33, 18, 62, 50), fill=255)
    mask.save(INPUTS / "mask.png")
    seen = render(RENDERED)
    Image.fromarray(seen.image).save(INPUTS / "render.png")
    to_image(np.reciprocal(seen.depth), (64, 64)).save(INPUTS / "depth.png")


def write_strip(name: str, paths: list[Path]) -> None:
    """Lay pictures side by side, all of one height, their pixels enlarged as they are."""
    pictures = []
    for path in paths:
        picture = Image.open(path)
        if picture.mode.startswith("I"):
            picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
        size = (picture.width * HEIGHT // picture.height, HEIGHT)
        pictures.append(picture.convert("RGB").resize(size, Image.Resampling.NEAREST))
    strip = Image.new("RGB", (sum(picture.width + GAP for picture in pictures) - GAP, HEIGHT), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + GAP
    strip.save(DOCS / f"{name}.png", optimize=True)


def make() -> None:
    """Make the inputs and every strip whose model is there."""
    write_inputs()
    write_strip("img2img", [INPUTS / "scene.png", run("img2img"), run("img2img stronger")])
    write_strip("outpainting", [INPUTS / "half.png", run("outpainting")])
    write_strip("inpainting", [INPUTS / "scene.png", INPUTS / "mask.png", run("inpainting")])
    write_strip("depth", [INPUTS / "render.png", INPUTS / "depth.png", run("depth")])
    if "toyworld-upscaler" in embedded_models():
        write_strip("upscaling", [INPUTS / "scene.png", run("upscaling")])


if __name__ == "__main__":
    make()
