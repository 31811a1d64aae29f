"""Fit the map from latents to colours that a bundle of the toyworld family says (`latent_rgb`), and measure it on other pictures.

    python -m benchmarks.preview_factors toyworld --write

Pictures are what the model paints of captions; for an upscaler, of what toyworld painted, scaled down. The same run gives the same numbers.
"""

from __future__ import annotations

import json

import click
import numpy as np
import numpy.typing as npt

from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.rgb_factors import FIELD, RgbFactors, fit_factors
from sd2rt.toyworld.scene import sample_scene

Floats = npt.NDArray[np.float32]
COUNT, JUDGED, AT_ONCE, SMALL = 96, 32, 16, (64, 64)
DIGITS = 4


def paint(model: str) -> tuple[Floats, Floats]:
    """Paint COUNT captions; return final latents [N, C, h, w] and their decoded pictures [N, H, W, 3]."""
    rng = np.random.default_rng(0)
    captions = [sample_scene(rng).caption for _ in range(COUNT)]
    latents, pictures = [], []
    with load("toyworld", target="cpu") as base, load(model, target="cpu") as pipe:
        for first in range(0, COUNT, AT_ONCE):
            some = captions[first : first + AT_ONCE]
            more = {"image": list(base(some, seed=first, output="numpy").images)} if pipe.bundle.task == "upscaling" else {}
            *_, last = pipe.steps(some, seed=first, output="numpy", **more)
            latents.append(last.latents)
            pictures.append(np.asarray(last.result().images))
    return np.concatenate(latents), np.concatenate(pictures)


def psnr_db(factors: RgbFactors, latents: Floats, pictures: Floats) -> float:
    """Compare the map with pictures brought to its size by averaging."""
    found = factors.apply(latents)
    count, height, width, _ = found.shape
    means = pictures.reshape(count, height, -1, width, pictures.shape[2] // width, 3).mean(axis=(2, 4))
    return float(-10 * np.log10(np.square(found - means).mean()))


@click.command()
@click.argument("model", default="toyworld")
@click.option("--write", is_flag=True, help="Write the map into all manifests of the family with the same autoencoder.")
def main(model: str, write: bool) -> None:
    """Fit MODEL's map on two thirds of the pictures, and measure it on the rest."""
    latents, pictures = paint(model)
    fitted = fit_factors(latents[JUDGED:], pictures[JUDGED:])
    rounded = RgbFactors(weights=tuple(_round(row) for row in fitted.weights), bias=_round(fitted.bias))
    click.echo(f"{model}: {psnr_db(rounded, latents[:JUDGED], pictures[:JUDGED]):.2f} dB on {JUDGED} pictures that were not fitted")
    click.echo(json.dumps(rounded.as_json()))
    if write:
        own = read_bundle(find_model(model))
        for path in sorted(own.folder.glob("*.json")):
            document = json.loads(path.read_bytes())
            if document.get("scaling_factor") == own.scaling_factor:
                path.write_text(json.dumps({**document, FIELD: rounded.as_json()}, indent=2) + "\n")
                click.echo(path)


def _round(row: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (round(value, DIGITS) for value in row)
    return red, green, blue


if __name__ == "__main__":
    main()
