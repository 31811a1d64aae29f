"""`sd2rt export`: a checkpoint to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sd2rt.cli.console import Console, console_options
from sd2rt.engine.errors import InvalidArgument


@click.command()
@click.argument("source", required=False)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder, new unless --force.")
@click.option("--dtype", default="fp16", show_default=True, help="fp16 or fp32.")
@click.option("--task", default="auto", show_default=True, help="text-to-image, inpainting, depth-to-image, upscaling, or auto.")
@click.option("--preset", help="Configs by name, such as sd21-base: for --random-weights or a single file.")
@click.option("--random-weights", is_flag=True, help="Draw weights in place of a SOURCE, to measure without a checkpoint.")
@click.option("--weights-seed", type=int, default=0, show_default=True, help="Seed of --random-weights.")
@click.option("--lora", "loras", multiple=True, metavar="FILE[:SCALE]", help="Merge a LoRA (.safetensors), SCALE times; may be repeated.")
@click.option("--tiny-vae", type=click.Path(path_type=Path), help="Add a tiny decoder for fast pictures: a TAESD folder or file.")
@click.option("--name", help="The bundle's name.  [default: SOURCE's]")
@click.option("--force", "replace", is_flag=True, help="Replace the folder that --out names.")
@console_options
@click.pass_obj
def export(console: Console, /, source: str | None, out: Path, **asked: Any) -> None:
    """Turn a checkpoint into a bundle and print its folder.

    SOURCE is a diffusers folder, a single .safetensors file in Stability's layout, a hub id or an alias. Needs torch and
    diffusers: pip install 'sd2rt[export,cpu]'. Painting does not.

    \b
    Examples:
      sd2rt export ./stable-diffusion-2-1 --out ./sd21
      sd2rt export v2-1_768-ema-pruned.safetensors --preset sd21 --out ./sd21
      sd2rt export --preset sd2-base --random-weights --weights-seed 0 --out ./random
      sd2rt export ./stable-diffusion-2-1 --lora style.safetensors:0.8 --out ./sd21-style
    """
    from sd2rt.export import ExportOptions, parse_lora
    from sd2rt.export import export as write_bundle

    if (source is None) != asked["random_weights"]:  # said here already, as loading torch takes seconds
        got = "neither" if source is None else "both"
        raise InvalidArgument(f"got {got} of SOURCE and --random-weights; expected a checkpoint, or --preset NAME --random-weights")
    options = ExportOptions(**{**asked, "loras": tuple(map(parse_lora, asked["loras"]))})
    folder = write_bundle(source, out, options, console.note)
    console.result({"bundle": str(folder)}, [str(folder)])
