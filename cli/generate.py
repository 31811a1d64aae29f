"""`sd2rt generate`: a prompt to PNG files."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console, console_options
from sd2rt.cli.output import OutputPlan, plan_output
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.runtime.result import Result


@click.command()
@click.argument("prompt")
@click.option("-m", "--model", default="toyworld", show_default=True, help="A bundle folder, or the embedded toyworld.")
@click.option("--target", default="auto", show_default=True, help="What runs it; `sd2rt info` lists what works here.")
@click.option("--negative", "negative_prompt", default="", help="What the picture should not show.")
@click.option("--steps", type=int, help="Sampling steps.  [default: the model's]")
@click.option("--guidance", "guidance_scale", type=float, help="How closely to follow the prompt; 1 is off.  [default: the model's]")
@click.option("--guidance-rescale", type=float, default=0.0, show_default=True, help="From 0 to 1; tames over-exposure at high guidance.")
@click.option("--sampler", help="Such as 'ddim', 'euler a' or 'dpm++ 2m karras'.  [default: the model's]")
@click.option("--seed", type=int, help="Seed of the first picture, the next ones count up.  [default: random]")
@click.option("--width", type=int, help="Pixels, a multiple of 8.  [default: the model's]")
@click.option("--height", type=int, help="Pixels, a multiple of 8.  [default: the model's]")
@click.option("-n", "--count", "images_per_prompt", type=int, default=1, show_default=True, help="Number of pictures.")
@click.option("-o", "--out", help="A .png file, or a folder for sd2rt-SEED.png.  [default: the current folder]")
@click.option("--force", is_flag=True, help="Replace the file that --out names.")
@console_options
@click.pass_obj
def generate(console: Console, /, model: str, target: str, out: str | None, force: bool, **asked: Any) -> None:
    """Paint PROMPT and print the paths of the pictures.

    With -n 4, `--out red.png` gives red-1.png to red-4.png. In a folder, existing pictures are never replaced.
    The first use of a model builds its engines. Every PNG carries its parameters as text.

    \b
    Examples:
      sd2rt generate "a large red sphere on the left and a small blue cube on the right"
      sd2rt generate "a green cone" --seed 7 --steps 25 --sampler "dpm++ 2m karras" --out cone.png
      sd2rt generate "a lighthouse at dusk" --model ./sd21 --negative "blurry" -n 4 --out pictures/
      sd2rt generate "a blue cube" --json | jq -r '.images[].path'
    """
    from sd2rt.runtime import load
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model
    from sd2rt.runtime.options import Request
    from sd2rt.runtime.request import resolve

    if not asked["prompt"].strip():
        raise InvalidArgument("PROMPT: got an empty text; expected a description of the picture")
    if asked["seed"] is None:
        asked["seed"] = int.from_bytes(os.urandom(4))
    job = resolve(Request(**asked), read_bundle(find_model(model)))
    plan = plan_output(out, pictures=len(job.seeds), force=force)
    console.note(f"seed {job.seeds[0]}, {job.steps} steps of {job.sampler}, {job.width} x {job.height}")
    with load(model, target=target, notify=console.note) as pipe, console.progress("step") as progress:
        for state in pipe.steps(**asked):
            progress(state.index + 1, state.total)
        result = state.result()
    paths = save(result, plan)
    for cut in result.cut:
        console.note(f"too long for the model, which did not see the end: {cut.strip()!r}")
    console.note(f"painted in {result.timings['total']:.2f} s on {pipe.target}")
    images = [{"path": str(path), **asdict(parameters)} for path, parameters in zip(paths, result.parameters, strict=True)]
    console.result({"images": images, "timings": result.timings}, map(str, paths))


def save(result: Result, plan: OutputPlan) -> list[Path]:
    """Write the pictures with their parameters and return their paths, in order."""
    from sd2rt.runtime.metadata import save_png

    plan.folder.mkdir(parents=True, exist_ok=True)
    paths = [plan.path(index, seed) for index, seed in enumerate(result.seeds)]
    for path, image, parameters in zip(paths, result.images, result.parameters, strict=True):
        save_png(image, path, parameters, force=plan.force)
    return paths
