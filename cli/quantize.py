"""`sd2rt quantize`: a bundle whose UNet computes in int8 on CPUs."""

from __future__ import annotations

from pathlib import Path

import click

from sd2rt.cli.console import Console, console_options, size_text
from sd2rt.engine.errors import InvalidArgument

SAMPLES, STEPS, MIN_SNR_DB = 8, 10, 32.0


@click.command()
@click.argument("bundle")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new bundle's folder, new unless --force.")
@click.option("--prompts", type=click.Path(path_type=Path), help="A text file, one prompt a line.  [default: some of our own]")
@click.option("--samples", type=click.IntRange(min=1), default=SAMPLES, show_default=True, help="Pictures to paint and measure with.")
@click.option("--steps", type=click.IntRange(min=1), default=STEPS, show_default=True, help="Steps of each picture.")
@click.option(
    "--min-snr",
    "min_snr_db",
    type=float,
    default=MIN_SNR_DB,
    show_default=True,
    help="Layers with less signal over noise stay float, in dB.",
)
@click.option("--force", "replace", is_flag=True, help="Replace the folder that --out names.")
@console_options
@click.pass_obj
def quantize(
    console: Console, /, bundle: str, out: Path, prompts: Path | None, samples: int, steps: int, min_snr_db: float, replace: bool
) -> None:
    """Write a copy of BUNDLE whose UNet has layers in int8, half the size, for the targets openvino and cpu.

    Paints pictures with BUNDLE to see what every layer reads and what it would lose; layers that would lose much stay as they are. One
    more picture is painted to compare both UNets, and nothing is written where they differ too much.

    \b
    Examples:
      sd2rt quantize ./sd21 --out ./sd21-int8
      sd2rt quantize ./sd21 --out ./sd21-int8 --prompts mine.txt --samples 16 --min-snr 28
      sd2rt generate "a lighthouse at dusk" --model ./sd21-int8 --target openvino
    """
    from sd2rt.cli.int8_bundle import Int8Options, write_int8_bundle
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model

    source = read_bundle(find_model(bundle))
    texts = draw_prompts(source.name, samples + 1) if prompts is None else read_prompts(prompts, samples + 1)
    options = Int8Options(prompts=texts, steps=steps, min_snr_db=min_snr_db, replace=replace)
    done = write_int8_bundle(source, out, options, console.note)
    summary = f"{done['layers']} layers in int8, {len(done['kept_float'])} kept; PSNR {done['psnr_db']:.1f} dB"
    console.note(f"unet: {summary}; {size_text(done['bytes_before'])} became {size_text(done['bytes'])}")
    console.result({"bundle": str(out), **done}, [str(out)])


def read_prompts(path: Path, count: int) -> tuple[str, ...]:
    """Read the first `count` lines that are not empty. Raises InvalidArgument when the file cannot be read or has fewer."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"prompts: {path} cannot be read ({error}); expected a text file, one prompt a line") from None
    texts = [line for line in lines if line]
    if len(texts) < count:
        raise InvalidArgument(f"prompts: {path} has {len(texts)}; expected {count}, one more than --samples, to compare with")
    return tuple(texts[:count])


def draw_prompts(model: str, count: int) -> tuple[str, ...]:
    """Give captions that toyworld was trained on to toyworld, and everyday prompts to others. The same ones every time.

    The last one, to compare with, is none of the others.
    """
    if not model.startswith("toyworld"):
        from sd2rt.cli.prompts import COMPARED, PROMPTS

        return (*(PROMPTS[index % len(PROMPTS)] for index in range(count - 1)), COMPARED)
    import numpy as np

    from sd2rt.toyworld.scene import is_held_out, sample_scene

    rng = np.random.default_rng(0)
    captions = (sample_scene(rng).caption for _ in range(10 * count))
    return tuple(dict.fromkeys(caption for caption in captions if not is_held_out(caption)))[:count]
