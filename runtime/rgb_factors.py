"""A linear map from latents to colours: what a preview costs next to nothing with.

One pixel per cell of the latents: colour = latents . weights + bias. A bundle may say its own map; those of Stability's two autoencoders
are known; of any other autoencoder it can be fitted to what the decoder gives. Knows no painter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import BundleError

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.document import Document

Floats = npt.NDArray[np.float32]
FIELD = "latent_rgb"  # of a bundle's manifest
RIDGE = 1e-3  # of the latents' variance: a picture of one colour says nothing of most directions
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RgbFactors:
    """`weights` has red, green and blue for each channel of the latents, as samplers have them; colours are in [0, 1]."""

    weights: tuple[Triple, ...]
    bias: Triple = (0.5, 0.5, 0.5)

    def apply(self, latents: Floats) -> Floats:
        """Return latents [N, C, h, w] as pictures [N, h, w, 3] in [0, 1]; what lies outside is clamped."""
        colours = latents.transpose(0, 2, 3, 1) @ np.asarray(self.weights, np.float32) + np.asarray(self.bias, np.float32)
        unit: Floats = np.clip(colours, 0.0, 1.0)
        return unit

    def as_json(self) -> dict[str, object]:
        """Return what `read_factors` reads."""
        return {"weights": [list(row) for row in self.weights], "bias": list(self.bias)}


def _halved(*rows: Triple) -> RgbFactors:
    """Return factors that were published for colours in [-1, 1]."""
    return RgbFactors(weights=tuple((red / 2, green / 2, blue / 2) for red, green, blue in rows))


KNOWN: Mapping[tuple[int, float], RgbFactors] = {
    # By K. Turner, discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204 (2022), for the autoencoder of SD 1 and 2.
    (8, 0.18215): _halved((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
    # Of the x4 upscaler's autoencoder, as ComfyUI's SD_X4 in comfy/latent_formats.py gives them.
    (4, 0.08333): _halved((-0.2340, -0.3863, -0.3257), (0.0994, 0.0885, -0.0908), (-0.2833, -0.2349, -0.3741), (0.2523, -0.0055, -0.1651)),
}
"""By an autoencoder's pixels per cell and its scaling factor, which tell Stability's from others."""


def find_factors(bundle: Bundle) -> RgbFactors | None:
    """Return the bundle's own map, else the published one of its autoencoder; None where neither is known."""
    if bundle.latent_rgb is not None:
        return bundle.latent_rgb
    known = KNOWN.get((bundle.latent_factor, bundle.scaling_factor))
    return known if bundle.latent_channels == 4 else None


def read_factors(document: Document, channels: int) -> RgbFactors | None:
    """Read the map that a manifest says, None if it says none. Raises BundleError for one of another shape or that is not finite."""
    if FIELD not in document.fields:
        return None
    child = document.child(FIELD)
    rows = (*child.items("weights"), child.items("bias"))
    read = [_triple(row) for row in rows]
    whole = [row for row in read if row is not None]
    if len(read) != channels + 1 or len(whole) != len(read):
        expected = f"`weights` of {channels} x 3 finite numbers and a `bias` of 3"
        raise BundleError(f"{child.where}: got {str(child.fields)[:80]}, expected {expected}; export the model again")
    return RgbFactors(weights=tuple(whole[:-1]), bias=whole[-1])


def _triple(row: object) -> Triple | None:
    """Return three finite numbers, None for anything else."""
    if not isinstance(row, list) or len(row) != 3 or not all(type(value) in (int, float) and abs(value) < math.inf for value in row):
        return None
    red, green, blue = map(float, row)
    return red, green, blue


def fit_factors(latents: Floats, pictures: Floats) -> RgbFactors:
    """Fit the map by least squares to what latents [N, C, h, w] were decoded to: pictures [N, k h, k w, 3] in [0, 1]."""
    count, channels, height, width = latents.shape
    cells = pictures.reshape(count, height, -1, width, pictures.shape[2] // width, 3).mean(axis=(2, 4), dtype=np.float64)
    known = np.ones((count * height * width, channels + 1))
    known[:, :channels] = latents.transpose(0, 2, 3, 1).reshape(-1, channels)
    ridge = RIDGE * len(known) * np.diag([*known[:, :channels].var(axis=0) + 1e-9, 0.0])
    fitted = np.linalg.solve(known.T @ known + ridge, known.T @ cells.reshape(-1, 3))
    rows = [(float(red), float(green), float(blue)) for red, green, blue in fitted]
    return RgbFactors(weights=tuple(rows[:-1]), bias=rows[-1])
