"""Make the picture strips of the README and the guides from commands that anyone can run: `python docs/make_strips.py` in the root.

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
COLOURS = ("red", "green", "blue")
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
CONE = '"a small green cube on the left and a small red cone on the right" --seed 11'
GUIDES = {
    "text-to-image": [f"sd2rt generate {SCENE} --seed {seed} --out out/seed-{seed}.png" for seed in (7, 8, 9)],
    "prompts": [
        f'sd2rt generate "a large {colour} cube, pink floor" --seed {3 + k} --out out/{colour}.png' for k, colour in enumerate(COLOURS)
    ],
    "seeds": [
        f"sd2rt generate {CONE} --out out/first.png",
        *(f"sd2rt generate {CONE} --variation-seed 6 --variation-strength {part} --out out/{part}.png" for part in (0.2, 0.35)),
    ],
    "grid": [f'sd2rt grid {SCENE} --x steps=3,5,10 --y sampler=ddim,"dpm++ 2m",lcm --seed 7 --out docs/grid.png'],
}
RENDERED = Scene(
    solids=(
        Solid(shape="cylinder", colour="green", size="large", place="left", x=-1.15, z=0.0, radius=1.0),
        Solid(shape="sphere", colour="purple", size="small", place="right", x=1.15, z=0.1, radius=0.62),
    ),
    floor="brown",
)


def run(command: str) -> Path:
    """Run a command and return the picture that it wrote."""
    words = shlex.split(command)[1:]
    code = main([*words, "--force", "--quiet", "--target", "cpu"])
    if code:
        raise SystemExit(code)
    return Path(words[words.index("--out") + 1])


def write_inputs() -> None:
    """Write a painted scene, its left half, a mask around what is on the right, and a rendered scene with its depth."""
    INPUTS.mkdir(exist_ok=True)
    with Image.open(run(COMMANDS["scene"])) as scene:
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
    write_strip("img2img", [INPUTS / "scene.png", run(COMMANDS["img2img"]), run(COMMANDS["img2img stronger"])])
    write_strip("outpainting", [INPUTS / "half.png", run(COMMANDS["outpainting"])])
    write_strip("inpainting", [INPUTS / "scene.png", INPUTS / "mask.png", run(COMMANDS["inpainting"])])
    write_strip("depth", [INPUTS / "render.png", INPUTS / "depth.png", run(COMMANDS["depth"])])
    if "toyworld-upscaler" in embedded_models():
        write_strip("upscaling", [INPUTS / "scene.png", run(COMMANDS["upscaling"])])
    for name, commands in GUIDES.items():
        pictures = [run(command) for command in commands]
        if len(pictures) > 1:
            write_strip(name, pictures)


if __name__ == "__main__":
    make()
