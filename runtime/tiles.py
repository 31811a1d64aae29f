"""Which part of a large picture is worked on at once, decided from its size: memory then no longer grows with the picture.

The autoencoder's and the upscaler's networks look at a neighbourhood, so that overlapping tiles give nearly what the whole would; a
text-to-image UNet composes the whole picture and is never cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.tiling import Floats, run_tiled

TILE_PIXELS = 768  # the largest native size of SD2: up to there, nothing is cut
# The native size of Stability's upscaler. Measured at its full size, 512 x 512 pixels to 2048 x 2048: peak memory is about 5.9 GB, and
# 9.7 GB in tiles of 768 pixels, in equal CPU time.
UPSCALING_TILE_PIXELS = 512
MIN_CELLS = 8  # of latents: smaller tiles show
OVERLAP = 6  # tiles share at least this part of their side: a sixth; more costs time and adds little


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Sides of tiles in cells of the latents, for the autoencoder and the UNet; None: all at once."""

    vae: int | None = None
    unet: int | None = None


def choose_tiles(task: str, size: tuple[int, int], asked: int | None, bundle: Bundle) -> Tiles:
    """Choose for a picture of `size` (height, width) pixels; `asked` is the side of a tile in pixels, 0 for none, None to decide here.

    What is upscaled counts with its size afterwards: by default up to 512 x 512 pixels, what else is painted up to 768 x 768, whole.
    Raises InvalidArgument for tiles of less than `MIN_CELLS` latents.
    """
    usual = UPSCALING_TILE_PIXELS if task == "upscaling" else TILE_PIXELS
    pixels = usual if asked is None else asked
    cells = pixels // bundle.latent_factor
    if asked != 0 and cells < MIN_CELLS:
        least = MIN_CELLS * bundle.latent_factor
        raise InvalidArgument(f"tile: got {asked} pixels; expected at least {least}, or 0 for no tiles")
    if pixels == 0 or size[0] * size[1] <= pixels**2:
        return Tiles()
    return Tiles(vae=cells, unet=cells if task == "upscaling" else None)


def run_in_tiles(function: Callable[[Floats], Floats], array: Floats, scale: int | Fraction, tile: int | None) -> Floats:
    """Run a function on an array [N, C, H, W], whole or in tiles of `tile` cells a side; see `tiling.run_tiled`.

    Where the result is smaller than the input (a scale of 1 / k), `tile` is in cells of the result.
    """
    if tile is None:
        return function(array)
    cells = Fraction(scale).denominator
    return run_tiled(function, array, scale, tile * cells, ceil(tile / OVERLAP) * cells)
