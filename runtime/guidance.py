"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) as an adapter around a UNet call.

Knows no sampler and no engine: `Unet` is any function of (sample, timesteps, text states).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Unet = Callable[[Floats, Floats, Floats], Floats]
"""(sample [N, C, h, w], timesteps [N], text states [N, S, D]) -> prediction [N, C', h, w]."""
Model = Callable[[Floats, float], Floats]
"""(sample [N, C, h, w], timestep) -> prediction [N, C', h, w]: what a sampler sees."""


def is_guided(scale: float) -> bool:
    """Return whether a guidance scale needs the negative prompt at all; at 1 and below there is one UNet row per image."""
    return scale > 1.0


def plain_model(unet: Unet, positive: Floats) -> Model:
    """Return a model without guidance: one row per image."""

    def predict(sample: Floats, timestep: float) -> Floats:
        return unet(sample, np.full(len(sample), timestep, np.float32), positive)

    return predict


def guided_model(unet: Unet, positive: Floats, negative: Floats, scale: float, rescale: float = 0.0) -> Model:
    """Return a model with guidance: one call with rows [negative, positive], combined as negative + scale * (positive - negative).

    `rescale` in [0, 1] pulls the result's spread back to that of the positive prediction (Lin et al. 2023, arXiv 2305.08891,
    section 3.4).
    """
    states = np.concatenate([negative, positive])

    def predict(sample: Floats, timestep: float) -> Floats:
        rows = np.concatenate([sample, sample])
        unconditioned, conditioned = np.split(unet(rows, np.full(len(rows), timestep, np.float32), states), 2)
        guided = unconditioned + np.float32(scale) * (conditioned - unconditioned)
        return rescale_spread(guided, conditioned, rescale) if rescale > 0.0 else guided

    return predict


def rescale_spread(guided: Floats, conditioned: Floats, rescale: float) -> Floats:
    """Blend `guided` with a copy that has `conditioned`'s standard deviation (unbiased, per image), weight `rescale` on the copy."""
    axes = tuple(range(1, guided.ndim))
    target = conditioned.std(axis=axes, keepdims=True, ddof=1)
    own = guided.std(axis=axes, keepdims=True, ddof=1)
    matched = guided * (target / own)
    blended: Floats = np.float32(rescale) * matched + np.float32(1.0 - rescale) * guided
    return blended
