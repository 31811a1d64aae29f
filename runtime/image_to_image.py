"""Image to image: a picture's latents, noised to where the sampler begins (Meng et al. 2021, SDEdit, arXiv 2108.01073)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.source import Bytes, Floats, Source
from sd2rt.runtime.start import RunComponent, Start, repeat_rows


def start_image_to_image(source: Source, bundle: Bundle, noise: BatchNoise, given: Floats | None, run: RunComponent) -> Start:
    """Begin from the noised picture. The order of draws is diffusers': the autoencoder's sample, then the latents' noise."""
    assert source.images is not None
    clean = encode_picture(run, bundle, repeat_rows(to_samples(source.images), noise.count), noise.draw())
    return Start(noise=noise.draw() if given is None else given, draw=noise.draw, clean=clean)


def to_samples(images: Bytes) -> Floats:
    """Turn pictures [N, H, W, 3] into the autoencoder's samples [N, 3, H, W] in [-1, 1]."""
    from sd2rt.runtime.image_input import to_model

    return np.concatenate([to_model(image) for image in images])


def encode_picture(run: RunComponent, bundle: Bundle, samples: Floats, noise: Floats) -> Floats:
    """Draw scaled latents [N, C, h, w] of pictures, samples [N, 3, H, W] in [-1, 1], from the autoencoder's posterior.

    `noise` [N, C, h, w] is of unit variance. Pictures go one at a time: the encoder's memory grows with the batch.
    """
    parameters = np.concatenate([run("vae_encoder", {"sample": row[np.newaxis]})["latent_parameters"] for row in samples])
    return draw_latents(parameters, noise) * np.float32(bundle.scaling_factor)


def draw_latents(parameters: npt.NDArray[np.floating], noise: Floats) -> Floats:
    """Draw from diagonal Gaussians [N, 2C, h, w]: means, then log variances, held to [-30, 20] as in ldm's and diffusers' classes."""
    mean, log_variance = np.split(parameters.astype(np.float32, copy=False), 2, axis=1)
    deviation: Floats = np.exp(np.float32(0.5) * np.clip(log_variance, -30.0, 20.0))
    latents: Floats = mean + deviation * noise
    return latents
