"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) as an adapter around a UNet call.

Knows no sampler and no engine: `Unet` is any function of (sample, timesteps, text states, shallow).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.evaluations import Evaluation, Evaluations, Mode

Floats = npt.NDArray[np.float32]
Unet = Callable[[Floats, Floats, Floats, bool], Floats]
"""(sample [N, C, h, w], timesteps [N], text states [N, S, D], whether it is shallow) -> prediction [N, C', h, w]."""
Model = Callable[[Floats, float, int], Floats]
"""(sample [N, C, h, w], timestep, row of the table) -> prediction [N, C', h, w]: what a sampler sees."""


def is_guided(scale: float) -> bool:
    """Return whether a guidance scale needs the negative prompt at all; at 1 and below there is one UNet row per image."""
    return scale > 1.0


class GuidedModel:
    """A model for one run: one UNet call a row of the table, as that row's evaluation says.

    A guided row is one call with rows [negative, positive], combined as negative + scale * (positive - negative). A row that reuses the
    last one's difference is positive + (scale - 1) * difference, which is the same where the difference is, for one row per image.
    `rescale` in [0, 1] pulls the result's spread back to that of the positive prediction (Lin et al. 2023, arXiv 2305.08891,
    section 3.4); plain rows, one per image, have that spread already.
    """

    def __init__(self, unet: Unet, states: tuple[Floats, Floats], evaluations: Evaluations, scale: float, rescale: float = 0.0) -> None:
        """Take the text states, positive and negative, [N, S, D] each; the negative ones may be none where no row is guided."""
        self._unet = unet
        self._positive, negative = states
        self._both = np.concatenate([negative, self._positive])
        self._evaluations = evaluations
        self._scale = np.float32(scale)
        self._rescale = rescale
        self._difference: Floats | None = None

    def __call__(self, sample: Floats, timestep: float, row: int) -> Floats:
        """Predict; see `Model`. Rows come in the table's order."""
        evaluation = self._evaluations[row]
        if evaluation.mode is Mode.GUIDED:
            rows = np.concatenate([sample, sample])
            unconditioned, conditioned = np.split(self._predict(rows, timestep, self._both, evaluation), 2)
            self._difference = conditioned - unconditioned
            guided = unconditioned + self._scale * self._difference
        else:
            conditioned = self._predict(sample, timestep, self._positive, evaluation)
            if evaluation.mode is Mode.PLAIN:
                return conditioned
            assert self._difference is not None  # the first row of an interval is guided
            guided = conditioned + (self._scale - np.float32(1)) * self._difference
        return rescale_spread(guided, conditioned, self._rescale) if self._rescale > 0.0 else guided

    def _predict(self, sample: Floats, timestep: float, states: Floats, evaluation: Evaluation) -> Floats:
        return self._unet(sample, np.full(len(sample), timestep, np.float32), states, evaluation.shallow)


def rescale_spread(guided: Floats, conditioned: Floats, rescale: float) -> Floats:
    """Blend `guided` with a copy that has `conditioned`'s standard deviation (unbiased, per image), weight `rescale` on the copy."""
    axes = tuple(range(1, guided.ndim))
    target = conditioned.std(axis=axes, keepdims=True, ddof=1)
    own = guided.std(axis=axes, keepdims=True, ddof=1)
    matched = guided * (target / own)
    blended: Floats = np.float32(rescale) * matched + np.float32(1.0 - rescale) * guided
    return blended
