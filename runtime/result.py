"""What a pipeline hands back: the state after each step, and the result with its timings. Plain values; decoding comes in as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.options import Preview
from sd2rt.runtime.parameters import Parameters

if TYPE_CHECKING:
    from PIL.Image import Image


class Timings(TypedDict):
    """Seconds: opening the pipeline (once), then of this call pictures that were given, the text encoder, each UNet step, the decoder,
    and the whole.

    `total` leaves out `load`, and what the caller of `steps` does between two steps.
    """

    load: float
    encode: float
    text: float
    steps: list[float]
    decode: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call gives, one entry per image.

    `images` is what `output` asked for: a list of PIL images, float32 [N, H, W, 3] in [0, 1], or the final latents, float32
    [N, C, h, w]. `parameters` is what `picture_file.save_picture` writes beside a picture. `cut` holds the ends of
    prompts and negative prompts that were too long and were left out, each once: worth a warning. `unet_rows` is how many rows of the
    UNet each picture took, two for a guided evaluation and one for another, and `shallow_rows` how many of them were not of the whole.
    """

    images: list[Image] | npt.NDArray[np.float32]
    seeds: tuple[int, ...]
    timings: Timings
    parameters: tuple[Parameters, ...]
    cut: tuple[str, ...]
    unet_rows: int
    shallow_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A call after step `index` (from 0) of `total`. Read it before the next step is taken: devices keep it no longer."""

    index: int
    total: int
    read_latents: Callable[[], npt.NDArray[np.float32]] = field(repr=False)
    decode: Callable[[Preview | None], list[Image]] = field(repr=False)
    result: Callable[[], Result] = field(repr=False)
    """Decode and hand over what the call returns; before the last step, the same with the picture foreseen so far."""

    @property
    def latents(self) -> npt.NDArray[np.float32]:
        """The sampler's latents, float32 [N, C, h, w]; after the last step the final ones."""
        return self.read_latents()

    def preview(self, decoder: Preview | None = None) -> list[Image]:
        """Decode the picture that the model foresees at this step, with the call's decoder or another.

        "tiny" is fast; "latent" shows one colour per cell of the latents, enlarged, and decodes nothing where the autoencoder's colours
        are known; else they are fitted to what the call's decoder makes of the 1st, 2nd, 4th and 8th preview and so on. With
        `low_memory` a decoder is opened for this, and for the next step the UNet again. On a device, another decoder than the call's is
        opened beside it.
        Raises InvalidArgument for a decoder that the bundle has not, EngineError when the picture is not finite.
        """
        return self.decode(decoder)
