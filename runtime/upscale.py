"""The x4 upscaler: a small picture, noised a little, as three more channels of the UNet, and the level of that noise as its class."""

from __future__ import annotations

import json

import numpy as np

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.image_to_image import to_samples
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.source import Floats
from sd2rt.runtime.start import Materials, Start, repeat_rows

LOW_RES_SCHEDULER = "low_res_scheduler/scheduler_config.json"


def start_upscaling(materials: Materials) -> Start:
    """Begin from noise. The order of draws is diffusers': the picture's noise, then the latents."""
    source, noise = materials.source, materials.noise
    assert source.images is not None  # the request's check
    samples = repeat_rows(to_samples(source.images), materials.count)
    noised = add_noise(samples, noise.draw(channels=samples.shape[1]), source.noise_level, materials.bundle)
    labels = np.full(materials.count, source.noise_level, np.int64)
    return Start(noise=materials.first_noise(), draw=noise.draw, extra=noised, class_labels=labels)


def add_noise(samples: Floats, noise: Floats, level: int, bundle: Bundle) -> Floats:
    """Return sqrt(abar) * samples + sqrt(1 - abar) * noise at a level of the bundle's own schedule for small pictures."""
    alpha_bars = Schedule.from_config(json.loads(bundle.read_file(LOW_RES_SCHEDULER))).alphas_cumprod
    if level >= len(alpha_bars):
        raise InvalidArgument(f"noise_level: got {level}; expected 0 to {len(alpha_bars) - 1}")
    alpha_bar = float(alpha_bars[level])
    return np.float32(alpha_bar**0.5) * samples + np.float32((1 - alpha_bar) ** 0.5) * noise
