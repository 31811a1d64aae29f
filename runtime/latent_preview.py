"""Previews without a decoder: the latents that a step foresees, mapped to colours and enlarged to the size of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.image import to_uint8
from sd2rt.runtime.painter import require_finite
from sd2rt.runtime.rgb_factors import find_factors, fit_factors

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.painter import Taken
    from sd2rt.runtime.request import Job


class LatentPreview:
    """The previews of one run.

    Where neither the bundle nor anybody else knows its autoencoder's colours, they are fitted to what the job's decoder makes of the first
    preview asked for, the second, the 4th, 8th and so on: a fit holds for what the picture shows by then.
    """

    def __init__(self, job: Job, bundle: Bundle, target: str) -> None:
        self._job = job
        self._bundle = bundle
        self._target = target
        self._factors = find_factors(bundle)
        self._fitted = self._factors is None
        self._asked = 0

    def __call__(self, taken: Taken) -> npt.NDArray[np.uint8]:
        """Return the pictures that a step foresees, uint8 [N, H, W, 3]. Raises EngineError when its latents are not finite."""
        latents = taken.foreseen()
        require_finite(latents, f"the latents after step {taken.index + 1} are", self._bundle, self._target)
        self._asked += 1
        if self._factors is None or (self._fitted and self._asked & (self._asked - 1) == 0):
            self._factors = fit_factors(latents, taken.pictures(foreseen=True, unit=True, decoder=self._job.decoder))
        return enlarge(to_uint8(self._factors.apply(latents)), (self._job.height, self._job.width))


def enlarge(pictures: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Scale pictures [N, h, w, 3] to (height, width), smoothly."""
    from PIL import Image

    scaled = [np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BICUBIC)) for picture in pictures]
    return np.stack(scaled)
